"""How the robot is, for the courier and for people: `run/control.json` once a second, `run/control.prom` every five and
at the end, `run/preview/<camera>.jpg` about once a second, each replaced as a whole.

control.json, format 1:
    format, robot_id, wall_ns (when it was written), control_pid, recorder_pid, cameras (names)
    calibration_fingerprint   of the arm
    joints      null while nobody reads the arm, or names, units and values of what was read last, also between episodes
    state, detail, task, policy             as control last told them
    arm         null, or an ArmHealth's fields: motors (by joint: temperature_celsius, voltage_volts, load_ratio,
                current_amperes, alarms), errors (by joint), reads, reads_failed, goals_withheld
    loop        null, or hz (rate held), lateness_ms_p50, lateness_ms_p99, lateness_ms_max: the last 10 s of an
                episode's ticks, dropped ones counted in hz; ticks, late: recorded since the recorder started, late
                meaning by more than half a period
    episode_id  null between episodes
    episode     null, or ticks, dropped, started_wall_ns
    frames_dropped   by control since it started, and by the recorder since it did
    recording_error  null, or why the last episode could not be recorded or published
    alive_until_monotonic_ns  until when control and recorder count as alive, see lefleet_agent.liveness
"""

import json
import os
import shutil
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from lefleet_agent.episode import EpisodeInfo, Floats, RobotInfo
from lefleet_agent.files import replace
from lefleet_agent.liveness import UNTIL, control_until_ns
from lefleet_agent.metrics import RecorderMetrics, exposition
from lefleet_agent.recording.framing import Part
from lefleet_agent.recording.ticks import tick_dtype
from lefleet_agent.spool import SpoolStats

log = structlog.get_logger()

FORMAT = 1
WINDOW_NS = 10 * 10**9
METRICS_PERIOD_NS = 5 * 10**9
"""Prometheus asks every 15 s as a rule, and to put all of them into words costs as much as encoding two pictures."""
JOINTS_KNOWN_NS = 3 * 10**9
"""Read every tick, or every half second where nobody waits for an event. An arm that is lost is nowhere."""
PREVIEW_PERIOD_NS = 9 * 10**8  # the courier asks for them once a second
STAGES = {"read": "read_ns", "preprocess": "preprocess_ns", "infer": "inference_ns", "send": "send_ns"}


class Telemetry:
    """Keeps what is known and writes it down. A full disk delays it and nothing else."""

    def __init__(
        self,
        run: Path,
        robot: RobotInfo,
        registry: CollectorRegistry,
        metrics: RecorderMetrics,
        hung_after_s: float = 60.0,
    ) -> None:
        self._run = run
        self._robot = robot
        self._registry = registry
        self._metrics = metrics
        self._status: dict[str, object] = {"state": "connecting", "detail": "", "task": "", "policy": None, "arm": None}
        self._info: EpisodeInfo | None = None
        self._half_period_ns = 0.0
        self._noted: list[bytes] = []
        self._layout = tick_dtype(robot)
        self._window: deque[tuple[int, int, int]] = deque()
        self._joints: list[float] = []
        self._joints_until_ns = 0
        self._ticks = self._late = self._episode_ticks = 0
        self._dropped = self._dropped_total = 0  # by control: in this episode, since it started
        self._lost = self._lost_total = 0  # by the disk, likewise
        self._last_seq: list[int | None] = [None] * len(robot.cameras)
        self._previewed_ns = [-PREVIEW_PERIOD_NS] * len(robot.cameras)
        self._metrics_due_ns = 0
        self._trouble = ""
        self._hung_after_s = hung_after_s
        self._heard_ns = time.monotonic_ns()

    def status(self, values: dict[str, object]) -> None:
        self._status |= values
        if "state" in values:
            self._metrics.state(str(values["state"]))
        arm, policy = values.get("arm"), values.get("policy")
        if isinstance(arm, dict):
            self._metrics.arm(arm)
        if isinstance(policy, dict):
            self._metrics.release(policy)

    def begin(self, info: EpisodeInfo) -> None:
        self._count()
        self._info = info
        self._half_period_ns = 0.5e9 / info.fps
        self._window.clear()
        self._episode_ticks = self._dropped = self._lost = 0
        self._last_seq = [None] * len(self._robot.cameras)

    def end(self) -> None:
        self._info = None
        self._count()

    def heard(self, dropped_total: int) -> None:
        """Control said something: it lives, and has dropped so many ticks since it started."""
        self._heard_ns = time.monotonic_ns()
        if dropped_total != self._dropped_total:
            self._metrics.frames_dropped.inc(dropped_total - self._dropped_total)
            self._dropped_total = dropped_total

    def lost(self) -> None:
        """One more tick that reached the recorder but no disk."""
        self._lost += 1
        self._lost_total += 1
        self._metrics.frames_dropped.inc()

    def note(self, tick: bytes) -> None:
        """A tick of the episode. Counted with others, once a second: a third of the cost of counting each alone."""
        self._noted.append(tick)

    def _count(self) -> None:
        noted, self._noted = self._noted, []
        ticks = np.frombuffer(b"".join(noted), self._layout)
        for tick in ticks:
            self.tick(tick)
        if len(ticks):
            self.see(ticks[-1]["joints"])

    def see(self, joints: Floats) -> None:
        """Where the arm is now, shape (joints,): told until nobody has said it for a while."""
        self._joints = [round(float(value), 2) for value in joints]
        self._joints_until_ns = time.monotonic_ns() + JOINTS_KNOWN_NS

    def tick(self, tick: np.void) -> None:
        lateness_ns, now_ns = int(tick["lateness_ns"]), int(tick["tick_monotonic_ns"])
        late = lateness_ns > self._half_period_ns
        self._dropped = int(tick["dropped"])
        self._ticks += 1
        self._episode_ticks += 1
        self._late += late
        self._metrics.tick(lateness_ns, int(tick["inference_ns"]), late=late)
        self._metrics.stages({stage: int(tick[name]) for stage, name in STAGES.items()}, held=bool(tick["held"]))
        self._window.append((now_ns, int(tick["number"]), lateness_ns))
        while now_ns - self._window[0][0] > WINDOW_NS:
            self._window.popleft()
        for index, camera in enumerate(self._robot.cameras):
            self._image(index, camera, tick["images"][index], now_ns)

    def _image(self, index: int, camera: str, stamp: np.void, now_ns: int) -> None:
        if not stamp["seen"]:
            return
        seq = int(stamp["seq"])
        self._metrics.image(camera, now_ns - int(stamp["taken_monotonic_ns"]), new=seq != self._last_seq[index])
        self._last_seq[index] = seq

    def preview(self, index: int, jpeg: Part) -> None:
        """Show this picture unless the last one of its camera is too fresh."""
        now_ns = time.monotonic_ns()
        if now_ns - self._previewed_ns[index] >= PREVIEW_PERIOD_NS:
            self._previewed_ns[index] = now_ns
            self._replace(self._run / "preview" / f"{list(self._robot.cameras)[index]}.jpg", jpeg)

    def wants_preview(self, index: int) -> bool:
        return time.monotonic_ns() - self._previewed_ns[index] >= PREVIEW_PERIOD_NS

    def write(self, recording_error: str | None, spool: SpoolStats | None, last: bool = False) -> None:
        """`last`: nothing is written after, so the metrics are too."""
        self._count()
        if spool:
            self._metrics.spool_bytes.set(spool.waiting_bytes)
            self._metrics.spool_episodes.set(spool.waiting_episodes)
        # The folder above: `run` itself may be memory, which spares the disk a write a second.
        with suppress(OSError):  # it is gone, and its journals with it: the recording's error says so
            self._metrics.disk_free(mount_of(self._run.parent), shutil.disk_usage(self._run.parent).free)
        self._replace(self._run / "control.json", json.dumps(self.snapshot(recording_error)).encode())
        now_ns = time.monotonic_ns()
        if last or now_ns >= self._metrics_due_ns:
            self._metrics_due_ns = now_ns + METRICS_PERIOD_NS
            self._replace(self._run / "control.prom", exposition(self._registry).encode())

    def snapshot(self, recording_error: str | None) -> dict[str, object]:
        """control.json's content."""
        info = self._info
        episode = {"ticks": self._episode_ticks, "dropped": self._dropped + self._lost} if info else None
        return {
            "format": FORMAT,
            "robot_id": self._robot.robot_id,
            **self._status,
            "cameras": list(self._robot.cameras),
            "control_pid": os.getppid(),
            "recorder_pid": os.getpid(),
            "calibration_fingerprint": self._robot.calibration_fingerprint,
            "joints": self._where(),
            "loop": self._loop(),
            "episode_id": info.episode_id if info else None,
            "episode": episode | {"started_wall_ns": info.started_wall_ns} if info and episode else None,
            "frames_dropped": self._dropped_total + self._lost_total,
            "recording_error": recording_error,
            "wall_ns": time.time_ns(),
            UNTIL: control_until_ns(
                time.monotonic_ns(), self._heard_ns, str(self._status["state"]), self._hung_after_s
            ),
        }

    def _where(self) -> dict[str, object] | None:
        if time.monotonic_ns() > self._joints_until_ns or not np.isfinite(self._joints).all():
            return None
        return {
            "names": list(self._robot.joint_names),
            "units": list(self._robot.joint_units),
            "values": self._joints,
        }

    def _loop(self) -> dict[str, float] | None:
        if not self._window:
            return None
        first, last = self._window[0], self._window[-1]
        seconds = (last[0] - first[0]) * 1e-9
        lateness_ms = np.array([lateness_ns for _, _, lateness_ns in self._window]) * 1e-6
        p50, p99, most = np.percentile(lateness_ms, [50, 99, 100])
        return {
            "hz": round((last[1] - first[1]) / seconds, 3) if seconds > 0 else 0.0,
            "lateness_ms_p50": round(float(p50), 3),
            "lateness_ms_p99": round(float(p99), 3),
            "lateness_ms_max": round(float(most), 3),
            "ticks": self._ticks,
            "late": self._late,
        }

    def _replace(self, path: Path, data: Part) -> None:
        try:
            replace(path, data)
        except OSError as error:
            trouble = str(error.strerror)
            if trouble != self._trouble:  # once, not for every file and every second
                log.error("cannot write how the robot is", path=str(path), reason=error.strerror)
            self._trouble = trouble


def mount_of(path: Path) -> str:
    """The mount point that holds this path."""
    return str(next(folder for folder in [path, *path.absolute().parents] if folder.is_mount()))
