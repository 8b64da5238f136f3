"""How late the control loop's ticks are, with the real recorder beside it and without; each turn in its own process."""

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import numpy as np
from episodes import episode_info, fake_robot
from figure import Column, Figure, Row, compare
from options import Options
from processes import run_worker, worker_main
from stalls import stall_disk

from lefleet_agent.control.chunks import Mode, Player
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.loop import ControlLoop, EpisodeSink, Pace
from lefleet_agent.control.operator import Operator
from lefleet_agent.control.safety import Freshness, Limits
from lefleet_agent.episode import EpisodeInfo, Frame, Outcome
from lefleet_agent.policies.inline import InlineRunner
from lefleet_agent.policies.scripted import ScriptedPolicy
from lefleet_agent.realtime import claim
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.requests import emergency_stop

NAME = "control_loop"
RATES_HZ = (30, 50)
P99, MAX = Column("p99_ms", "lateness p99 ms", 2), Column("max_ms", "lateness max ms", 2)
LATE = Column("late", "late ticks", 0)
COLUMNS = (
    Column("hz", "rate held Hz", 2),
    Column("p50_ms", "lateness p50 ms", 2),
    P99,
    MAX,
    LATE,
    Column("add_p99_ms", "handing over p99 ms", 2),
    Column("ticks", "ticks", 0),
    Column("lost", "frames lost", 0),
)


NOT_RECORDING, RECORDING, STALLS = "not recording", "recording", "recording, 300 ms disk stalls"


def cases(options: Options) -> list[tuple[int, str]]:
    ways = (NOT_RECORDING, RECORDING, STALLS)
    return [(hz, way) for hz in RATES_HZ[: 1 if options.quick else None] for way in ways]


def steps(options: Options) -> int:
    return options.rounds * len(cases(options))


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    seconds = 1 if options.quick else 20
    found: dict[str, list[dict[str, float]]] = {title(*case): [] for case in cases(options)}
    for _ in range(options.rounds):
        for hz, way in cases(options):
            tell(title(hz, way))
            turn = {"hz": hz, "way": way, "seconds": seconds, "folder": str(options.folder)}
            found[title(hz, way)].append(run_worker("control_loop.py", 120, **turn))
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    return Figure(
        NAME,
        f"Control loop with two 640x480 cameras, {seconds} s a turn, median of {options.rounds}",
        COLUMNS,
        rows,
        tuple(
            comparison
            for hz in RATES_HZ
            for way in (RECORDING, STALLS)
            for column in (LATE, P99, MAX)
            for comparison in compare(
                title(hz, way), rows, title(hz, way), title(hz, NOT_RECORDING), column, lower_is_better=True
            )
        ),
        (
            "A robot and a policy that answer at once, so lateness is that of the loop and of its machine. "
            "Recording takes two new pictures every tick. Late: by over half a period, as the metric counts. "
            "With stalls, no call of the recorder for its disk is answered in the last 300 ms of every 2 s.",
        ),
    )


def title(hz: int, way: str) -> str:
    return f"{hz} Hz, {way}"


class Watch:
    """A sink that notes when each tick came, and hands it on to the recorder if there is one."""

    def __init__(self, recorder: EpisodeSink | None) -> None:
        self._recorder = recorder
        self.lateness_ns: list[int] = []
        self.ticks_ns: list[int] = []
        self.add_ns: list[int] = []

    def begin(self, info: EpisodeInfo) -> None:
        if self._recorder:
            self._recorder.begin(info)

    def add(self, frame: Frame) -> bool:
        self.lateness_ns.append(frame.lateness_ns)
        self.ticks_ns.append(frame.tick_monotonic_ns)
        start_ns = time.perf_counter_ns()
        taken = self._recorder is None or self._recorder.add(frame)
        self.add_ns.append(time.perf_counter_ns() - start_ns)
        return taken

    def end(self, outcome: Outcome, interrupted: bool, reason: str) -> None:
        if self._recorder:
            self._recorder.end(outcome, interrupted, reason)


def work(hz: int, way: str, seconds: float, folder: str) -> dict[str, Any]:
    """In the worker: one episode of the real control loop."""
    claim()  # as `lefleet-agent run` does
    robot = fake_robot()
    low, high = np.array(robot.info.joint_limits, np.float32).T
    limits = Limits(low, high, np.full(low.shape, 400 / hz, np.float32))
    with TemporaryDirectory(dir=folder) as scratch, ExitStack() as stack:
        handle = RecorderHandle(RecorderConfig(Path(scratch), robot.info), stall_disk if way == STALLS else None)
        recording = way != NOT_RECORDING
        if recording:
            handle.start()
            stack.callback(handle.close)
            time.sleep(1)  # the recorder looks for what a crash left behind
        watch = Watch(handle.sink if recording else None)
        operator = Operator(emergency_stop(Path(scratch)), Path(scratch) / "run", Event())
        loop = ControlLoop(robot, limits, Freshness(), watch, SystemClock(), Pace(hz), operator)
        # As the control session does around an episode.
        gc.collect()
        gc.disable()
        player = Player(InlineRunner(ScriptedPolicy(hz=hz)), Mode.OVERLAP, hz, 0.2, SystemClock())
        ended = loop.run(episode_info(robot.info, hz), player, seconds, judge=None)
        gc.enable()
        assert not ended.interrupted, ended.reason
        lost = handle.sink.dropped_total
    lateness_ms = np.array(watch.lateness_ns) / 1e6
    return {
        "hz": (len(watch.ticks_ns) - 1) / (watch.ticks_ns[-1] - watch.ticks_ns[0]) * 1e9,
        "p50_ms": float(np.percentile(lateness_ms, 50)),
        "p99_ms": float(np.percentile(lateness_ms, 99)),
        "max_ms": float(lateness_ms.max()),
        "late": int((lateness_ms > 500 / hz).sum()),
        "add_p99_ms": float(np.percentile(watch.add_ns, 99)) / 1e6 if recording else 0.0,
        "ticks": len(lateness_ms),
        "lost": lost,
    }


if __name__ == "__main__":
    worker_main(work)
