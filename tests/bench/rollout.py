"""Ours next to `lerobot-rollout`: the same ACT, the same arm and cameras, 30 Hz, each turn in processes of its own.

The arm notes when it is asked and told, so both are measured by the same code (see `lerobot_arm`).
"""

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from episodes import episode_info
from figure import Column, Figure, Row, compare
from lerobot_arm import told
from options import Options
from processes import cpu_s, run_worker, worker_main
from scene import HEIGHT, WIDTH, film, swing

from lefleet_agent.control.chunks import Mode, Player
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.loop import ControlLoop, Pace
from lefleet_agent.control.operator import Operator
from lefleet_agent.control.safety import Freshness, Limits
from lefleet_agent.episode import Action, CameraImage, Observation
from lefleet_agent.policies.process import PolicyOptions, PolicyProcess, Wanted
from lefleet_agent.realtime import claim
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.release import describe
from lefleet_agent.requests import emergency_stop
from lefleet_agent.robots.fake import SO101_JOINTS, FakeRobot

NAME = "rollout"
HZ = 30
FILM = 48
OURS = "LeFleet, recording"
ORDINARY = "LeFleet, recording, not scheduled in real time"
PEERS = {
    "lerobot-rollout, base (not recording)": "base",
    "lerobot-rollout, sentry (recording)": "sentry",
}
P99, MAX = Column("p99_ms", "late p99 ms", 1), Column("max_ms", "late max ms", 1)
CPU = Column("cpu_ms", "CPU ms/tick", 1)
COLUMNS = (
    Column("hz", "rate held Hz", 2),
    Column("p50_ms", "late p50 ms", 2),
    P99,
    MAX,
    Column("behind_s", "behind at the end s", 2),
    Column("act_ms", "observed to sent p50 ms", 2),
    CPU,
    Column("ticks", "ticks", 0),
    Column("lost", "frames lost", 0),
)


def steps(options: Options) -> int:
    return 1 + options.rounds * (2 + len(PEERS))


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    seconds = 5 if options.quick else 25
    tell("an ACT with random weights")
    policy = options.folder / "act"
    computes_on = run_worker("rollout.py", 300, part="policy", folder=str(policy))["device"]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (OURS, ORDINARY, *PEERS)}
    for turn in range(options.rounds):
        for name, rounds in found.items():
            tell(name)
            scratch = options.folder / f"rollout-{turn}"
            part = PEERS.get(name, "ordinary" if name == ORDINARY else "ours")
            arguments = {"part": part, "policy": str(policy), "folder": f"{scratch}-{part}", "seconds": seconds}
            rounds.append(run_worker("rollout.py", 300 + 4 * seconds, **arguments))
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    return Figure(
        NAME,
        f"ACT (51.6 M) on {computes_on} at {HZ} Hz, two 640x480 cameras, {seconds} s a turn, median of "
        f"{options.rounds}",
        COLUMNS,
        rows,
        tuple(
            comparison
            for peer in PEERS
            for column in (P99, MAX, CPU)
            for comparison in compare("driving", rows, OURS, peer, column, lower_is_better=True)
        ),
        (
            "Late: how much longer than a period it was since the tick before, seen by the arm. Processor time is that "
            "of all processes from the first tick to the last; ours includes recording both cameras, as sentry's does. "
            "`lefleet-agent run` schedules control in real time where it may (root here; rtprio in the container).",
        ),
    )


class FilmArm(FakeRobot):
    """Our twin of `lerobot_arm.BenchArm`."""

    def __init__(self) -> None:
        super().__init__("bench", height=HEIGHT, width=WIDTH)
        self.observed_ns: list[int] = []
        self.sent_ns: list[int] = []
        self._film = film(FILM)

    def observe(self) -> Observation:
        now_ns = time.monotonic_ns()
        self.observed_ns.append(now_ns)
        tick = len(self.observed_ns)
        place = swing(tick, FILM)
        wall_ns = time.time_ns()
        images = {name: CameraImage(tick, now_ns, wall_ns, shots[place]) for name, shots in self._film.items()}
        return Observation(self._joints.copy(), images, now_ns)

    def send(self, action: Action) -> Action:
        self.sent_ns.append(time.monotonic_ns())
        told()
        self._joints = action.copy()
        return action


def work(part: str, folder: str, policy: str = "", seconds: float = 0) -> dict[str, Any]:
    """In the worker: one part."""
    if part == "policy":
        return save_policy(Path(folder))
    if part == "ours":
        claim()  # as `lefleet-agent run` does
    if part in ("ours", "ordinary"):
        return ours(Path(policy), Path(folder), seconds)
    return lerobots(part, Path(policy), Path(folder), seconds)


def save_policy(folder: Path) -> dict[str, Any]:
    """LeRobot's ACT as it comes (51.6 M parameters), random weights, statistics that leave the numbers alone."""
    import torch
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies import get_policy_class, make_policy_config, make_pre_post_processors

    joints = len(SO101_JOINTS)
    cameras = ("front", "wrist")
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (joints,))}
    inputs |= {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, HEIGHT, WIDTH)) for name in cameras}
    config = make_policy_config(
        "act",
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (joints,))},
        device="cpu",
        push_to_hub=False,
        pretrained_backbone_weights=None,
    )
    plain = {"mean": torch.zeros(joints), "std": torch.ones(joints)}
    pixels = {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)}
    statistics = {"observation.state": plain, "action": plain}
    statistics |= {f"observation.images.{name}": pixels for name in cameras}
    model = get_policy_class("act")(config)
    for each in (model, *make_pre_post_processors(config, dataset_stats=statistics)):
        each.save_pretrained(folder)
    return {"device": device()}


def ours(policy: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """One episode of the real control loop, policy's process and recorder."""
    folder.mkdir()
    arm = FilmArm()
    low, high = np.array(arm.info.joint_limits, np.float32).T
    limits = Limits(low, high, np.full(low.shape, 400 / HZ, np.float32))
    operator = Operator(emergency_stop(folder), folder / "run", Event())
    options = PolicyOptions(HZ, "overlap", "auto", "fp32", 0.5, 1)
    wanted = Wanted(policy, describe(policy, "lefleet/bench", "0" * 40), arm.info, options)
    runner = PolicyProcess.start(wanted, None, lambda: False, 300)
    handle = RecorderHandle(RecorderConfig(folder, arm.info))
    handle.start()
    try:
        loop = ControlLoop(arm, limits, Freshness(), handle.sink, SystemClock(), Pace(HZ), operator)
        gc.collect()
        gc.disable()
        before_s = cpu_s(os.getpid())
        player = Player(runner, Mode.OVERLAP, HZ, 0.2, SystemClock())
        ended = loop.run(episode_info(arm.info, HZ), player, seconds, judge=None)
        spent_s = cpu_s(os.getpid()) - before_s
        assert not ended.interrupted, ended.reason
        return figures(arm.observed_ns, arm.sent_ns, spent_s / len(arm.sent_ns)) | {"lost": handle.sink.dropped_total}
    finally:
        runner.close()
        handle.close()


def lerobots(strategy: str, policy: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """LeRobot's own program, as its documentation says, on the same arm."""
    from lerobot.scripts.lerobot_rollout import main as rollout
    from lerobot_arm import BenchArm

    recording = [
        "--dataset.repo_id=lefleet/rollout_bench",
        f"--dataset.root={folder}",
        "--dataset.single_task=reach",
        "--dataset.push_to_hub=false",
        "--dataset.rgb_encoder.vcodec=h264",
        "--dataset.rgb_encoder.preset=ultrafast",
    ]
    sys.argv = [
        "lerobot-rollout",
        f"--strategy.type={strategy}",
        f"--policy.path={policy}",
        f"--policy.device={device()}",
        "--robot.type=bench_arm",
        "--robot.id=bench",
        f"--robot.calibration_dir={folder}-calibration",
        f"--fps={HZ}",
        f"--duration={seconds}",
        "--task=reach",
        "--play_sounds=false",
        "--return_to_initial_position=false",
        *(recording if strategy != "base" else []),
    ]
    rollout()
    ticks = BenchArm.made.ticks
    return figures(ticks.observed_ns, ticks.sent_ns, ticks.cpu_s()) | {"lost": 0}


def device() -> str:
    """What both compute on: a GPU where there is one."""
    from lefleet_agent.policies.lerobot import device_of

    return device_of("auto").type


def figures(observed_ns: list[int], sent_ns: list[int], tick_cpu_s: float) -> dict[str, float]:
    """What the arm saw: a tick is a target that came, with the observation that was asked for last before it."""
    sent = np.array(sent_ns)
    observed = np.array(observed_ns)
    observed = observed[np.searchsorted(observed, sent) - 1]
    ticks = len(sent)
    late_ms = np.maximum(0.0, np.diff(observed) * 1e-9 - 1 / HZ) * 1e3
    lasted_s = float(observed[-1] - observed[0]) * 1e-9
    return {
        "hz": (ticks - 1) / lasted_s,
        "p50_ms": float(np.percentile(late_ms, 50)),
        "p99_ms": float(np.percentile(late_ms, 99)),
        "max_ms": float(late_ms.max()),
        "behind_s": lasted_s - (ticks - 1) / HZ,
        "act_ms": float(np.median(sent - observed)) * 1e-6,
        "cpu_ms": tick_cpu_s * 1e3,
        "ticks": ticks,
    }


if __name__ == "__main__":
    worker_main(work)
