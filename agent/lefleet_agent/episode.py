"""Values that pass between the robot, the policy, the control loop and the recorder."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

type Floats = npt.NDArray[np.float32]
type Pixels = npt.NDArray[np.uint8]
type Action = Floats
"""One target per joint, shape (joints,), in the robot's joint order and units."""


class Outcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CameraImage:
    """The newest picture of one camera; `seq` repeats when the camera is slower than the control loop."""

    seq: int
    taken_monotonic_ns: int
    taken_wall_ns: int
    rgb: Pixels
    """Shape (height, width, 3), RGB."""


@dataclass(frozen=True, slots=True)
class Observation:
    joints: Floats
    """Shape (joints,): degrees, the gripper 0 to 100, as LeRobot gives them."""
    images: dict[str, CameraImage]
    read_monotonic_ns: int
    environment: Floats | None = None
    """What a simulator knows beyond the joints (an object's pose), shape (n,)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One control tick: what was seen, what was wanted and what was really sent."""

    observation: Observation
    requested: Action
    sent: Action
    tick_monotonic_ns: int
    tick_wall_ns: int
    lateness_ns: int
    """How long after its deadline the tick began."""
    inference_ns: int = 0
    """Time it took to compute the action chunk that came in at this tick; 0 when none did."""
    preprocess_ns: int = 0
    """Time of that before the network: pictures to tensors, normalisation."""
    read_ns: int = 0
    """Time this tick took to have the observation at hand."""
    send_ns: int = 0
    """Time this tick took to hand the action to the arm."""
    observed_ns: int = 0
    """When the observation behind the action was made, monotonic; 0 while the arm held still."""
    held: bool = False
    """There was no action to play, or nothing fresh to act on: the last one was sent again."""
    intervention: bool = False
    """A person led the arm in this tick."""


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """Which policy acts: enough to find the very same bytes again."""

    repo: str
    commit: str
    digest: str
    """SHA-256 over the repo, the commit and the sorted `name sha256` lines, each on a line of its own."""
    type: str
    files: dict[str, str]
    """File name to SHA-256."""

    def reference(self) -> dict[str, str]:
        """What names this policy, without its list of files."""
        return {"repo": self.repo, "commit": self.commit, "digest": self.digest, "type": self.type}


@dataclass(frozen=True, slots=True)
class CameraInfo:
    height: int
    width: int
    fps: float
    fingerprint: str
    """What identifies the physical camera and its settings; changes when either does."""


@dataclass(frozen=True, slots=True)
class RobotInfo:
    """What a robot is, known before it is connected."""

    robot_id: str
    type: str
    joint_names: tuple[str, ...]
    joint_units: tuple[str, ...]
    joint_limits: tuple[tuple[float, float], ...]
    """Lowest and highest target of each joint, in its unit."""
    cameras: dict[str, CameraInfo]
    calibration_fingerprint: str
    simulated: bool
    environment_size: int = 0
    """Length of `Observation.environment`; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class MotorHealth:
    """One joint's motor, as it last said."""

    temperature_celsius: float
    voltage_volts: float
    load_ratio: float
    """Share of the motor's full torque, -1 to 1."""
    current_amperes: float
    alarms: tuple[str, ...]
    """What the motor itself complains of: `voltage`, `overheat`, `overload`...; empty when all is well."""


@dataclass(frozen=True, slots=True)
class ArmHealth:
    """How the arm's motors and their bus are. Counts go on from when the arm was first connected."""

    motors: dict[str, MotorHealth]
    """By joint; without those that have not been asked yet."""
    errors: dict[str, int]
    """By joint: answers that were lost, broken or an alarm."""
    reads: int
    reads_failed: int
    """Readings of all joints that failed; each was tried again."""
    goals_withheld: int
    """Targets that came while the bus was stuck and were not sent."""


@dataclass(frozen=True, slots=True)
class EpisodeInfo:
    """Everything known about an episode when it begins."""

    episode_id: str
    """UUID in hexadecimal."""
    robot: RobotInfo
    policy: PolicyInfo | None
    task: str
    fps: float
    agent_version: str
    started_wall_ns: int
    started_monotonic_ns: int
    seed: int | None = None
    """The simulator's seed; None on a real robot."""
    extra: dict[str, str] = field(default_factory=dict)
