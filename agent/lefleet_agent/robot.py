"""The edge towards the arm: what every robot can do, and how it fails."""

from typing import Protocol, runtime_checkable

from lefleet_agent.episode import Action, ArmHealth, Observation, Outcome, RobotInfo


class RobotError(Exception):
    """The robot cannot go on: its message names the part, what it answered and what to do."""


class RobotDisconnected(RobotError):  # noqa: N818 - a state, as LeRobot names it
    """The bus or a camera no longer answers; reconnecting may help."""


class Robot(Protocol):
    """One arm with its cameras. Constructors do no I/O; `connect` does."""

    @property
    def info(self) -> RobotInfo: ...

    def connect(self) -> None:
        """Open the bus and the cameras. Raises RobotError with the remedy."""

    def observe(self) -> Observation:
        """Joints now, and the newest image of each camera; never waits for a camera."""

    def send(self, action: Action) -> Action:
        """Send joint targets, shape (joints,); returns what was really sent (clipped by the hardware's limits)."""

    def disconnect(self) -> None: ...


class ResettableRobot(Robot, Protocol):
    """A robot that can set its scene up by itself and knows whether the task is done: a simulator."""

    def reset(self, seed: int) -> None:
        """Set up a new scene; the same seed gives the same scene. May take a second."""

    def outcome(self) -> Outcome:
        """SUCCESS once the task is done, else UNKNOWN."""


@runtime_checkable
class MonitoredRobot(Protocol):
    """A robot whose motors tell how they are."""

    def health(self) -> ArmHealth:
        """As last known; never waits."""
