"""The edge between the thread that owns an arm's bus and whatever drives the arm."""

from dataclasses import dataclass, field
from typing import Protocol

from lefleet_agent.episode import Action, CameraImage, CameraInfo, Floats, MotorHealth


class BusFault(Exception):  # noqa: N818 - a passing state, not an error by itself
    """One exchange on the bus failed; the next may succeed."""

    def __init__(self, sentence: str, joint: str | None = None) -> None:
        super().__init__(sentence)
        self.joint = joint
        """Whose motor's answer was missing or broken, where that is known."""


@dataclass(frozen=True, slots=True)
class ArmDescription:
    """What is known of an arm before it is connected; the first three in the same order."""

    joint_names: tuple[str, ...]
    joint_units: tuple[str, ...]
    joint_limits: tuple[tuple[float, float], ...]
    calibration_fingerprint: str
    """SHA-256 of the calibration file, as role robot_devices has it."""
    cameras: dict[str, CameraInfo] = field(default_factory=dict)
    """Those that the driver reads by itself."""


class ArmDriver(Protocol):
    """One arm. Not thread-safe: its thread alone calls `read`, `write` and `health`."""

    def describe(self) -> ArmDescription:
        """Without touching the arm. Raises RobotError."""

    def open(self) -> None:
        """Open the bus, check the motors and let them hold where they stand. Raises RobotError with the remedy."""

    def read(self) -> Floats:
        """All joints. Raises BusFault, or RobotDisconnected when the port is gone."""

    def images(self) -> dict[str, CameraImage]:
        """What its own cameras had at the last `read`. Any thread may call this."""

    def write(self, action: Action) -> Action:
        """Send targets; returns them as they went out. Raises as `read`."""

    def health(self, joint: str) -> MotorHealth | None:
        """Ask one motor; None where it cannot be asked. Raises as `read`."""

    def diagnosis(self) -> str:
        """After reading has failed for good: a sentence that names what does not answer and the remedy."""

    def close(self) -> None:
        """Leave the bus. Never raises for a bus that is gone."""
