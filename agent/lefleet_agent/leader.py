"""The edge towards a leader arm: the arm in a person's hand whose pose the robot's arm follows."""

from dataclasses import dataclass
from typing import Protocol

from lefleet_agent.episode import Floats


class LeaderError(Exception):
    """The leader arm gives no pose now: its message names the part and what to do. It may come back by itself."""


@dataclass(frozen=True, slots=True)
class LeaderPose:
    joints: Floats
    """Shape (joints,), in the order and units of the robot that follows."""
    read_monotonic_ns: int


class Leader(Protocol):
    """One leader arm. Constructors do no I/O; `start` does."""

    def start(self) -> None:
        """Begin to look for the arm and to read it, beside whoever asks; returns at once."""

    def pose(self) -> LeaderPose:
        """The newest; never waits. Raises LeaderError."""

    def stop(self) -> None: ...
