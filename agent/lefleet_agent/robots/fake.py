"""A robot without physics: joints are where they were sent, pictures are drawn. For tests and benchmarks."""

import time
from collections.abc import Callable

import numpy as np

from lefleet_agent.episode import Action, CameraImage, CameraInfo, Floats, Observation, Outcome, Pixels, RobotInfo
from lefleet_agent.leader import LeaderError, LeaderPose
from lefleet_agent.robot import RobotDisconnected

SO101_JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


class FakeRobot:
    """Answers at once. `succeeds_after` ticks the task is done; `fails_after` ticks the bus is gone."""

    def __init__(
        self,
        robot_id: str = "fake",
        cameras: tuple[str, ...] = ("front", "wrist"),
        height: int = 48,
        width: int = 64,
        succeeds_after: int | None = None,
        fails_after: int | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.sent: list[Action] = []
        self._joints: Floats = np.zeros(len(SO101_JOINTS), np.float32)
        self._succeeds_after = succeeds_after
        self._fails_after = fails_after
        self._monotonic_ns = monotonic_ns
        self._pictures = [scene(height, width, phase) for phase in np.linspace(0, 1, 16, endpoint=False)]
        self._info = RobotInfo(
            robot_id=robot_id,
            type="fake",
            joint_names=SO101_JOINTS,
            joint_units=("degrees",) * 5 + ("percent",),
            cameras={name: CameraInfo(height, width, 30.0, f"fake-{name}") for name in cameras},
            calibration_fingerprint="fake",
            simulated=True,
            joint_limits=((-180.0, 180.0),) * 5 + ((0.0, 100.0),),
        )

    @property
    def info(self) -> RobotInfo:
        return self._info

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def reset(self, seed: int) -> None:
        self.sent.clear()
        self._joints = np.random.default_rng(seed).uniform(-10, 10, len(SO101_JOINTS)).astype(np.float32)

    def outcome(self) -> Outcome:
        done = self._succeeds_after is not None and len(self.sent) >= self._succeeds_after
        return Outcome.SUCCESS if done else Outcome.UNKNOWN

    def observe(self) -> Observation:
        now_ns = self._monotonic_ns()
        tick = len(self.sent)
        images = {
            name: CameraImage(tick + 1, now_ns, time.time_ns(), self._pictures[(tick + 5 * place) % 16])
            for place, name in enumerate(self._info.cameras)
        }
        return Observation(self._joints.copy(), images, now_ns)

    def send(self, action: Action) -> Action:
        if self._fails_after is not None and len(self.sent) >= self._fails_after:
            raise RobotDisconnected("the bus no longer answers; check the cable and the power supply")
        self._joints = action.copy()
        self.sent.append(action.copy())
        return action


class FakeLeader:
    """A leader arm that stands where `joints` says; `lost` says why it gives no pose, `age_ns` how old poses are."""

    def __init__(self, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.joints: Floats = np.zeros(len(SO101_JOINTS), np.float32)
        self.lost = ""
        self.age_ns = 0
        self.started = False
        self._monotonic_ns = monotonic_ns

    def start(self) -> None:
        self.started = True

    def pose(self) -> LeaderPose:
        if self.lost:
            raise LeaderError(self.lost)
        return LeaderPose(self.joints.copy(), self._monotonic_ns() - self.age_ns)

    def stop(self) -> None:
        self.started = False


def scene(height: int, width: int, phase: float) -> Pixels:
    """A structured picture, so that JPEG has edges, gradients and texture to encode; shape (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    table = 90 + 60 * y / height + 8 * np.sin(x / 3) * np.cos(y / 5)
    picture = np.stack([table, table * 0.9, table * 0.8], axis=-1)
    centre = np.array(
        [height * (0.5 + 0.3 * np.sin(2 * np.pi * phase)), width * (0.5 + 0.3 * np.cos(2 * np.pi * phase))]
    )
    inside = (np.abs(y - centre[0]) < height / 8) & (np.abs(x - centre[1]) < width / 8)
    picture[inside] = (200, 60, 40)
    return picture.clip(0, 255).astype(np.uint8)
