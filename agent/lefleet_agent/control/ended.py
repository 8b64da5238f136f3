"""How an episode ended, and why."""

from dataclasses import dataclass
from enum import Enum, auto

from lefleet_agent.episode import Outcome


class Cause(Enum):
    """What ended it: it decides what happens to the arm next."""

    DONE = auto()
    """Success, or the time limit."""
    OPERATOR = auto()
    STOPPED = auto()
    """The process is to end."""
    EMERGENCY = auto()
    """The arm must not move until a person says so."""
    ROBOT = auto()
    """The arm or a camera failed."""
    POLICY = auto()
    """The policy died, hung or asked for something unsafe."""
    LEADER = auto()
    """A person had taken over, and the leader arm gave no more poses: the arm stays where it is."""


@dataclass(frozen=True, slots=True)
class Ended:
    outcome: Outcome
    interrupted: bool
    reason: str
    cause: Cause = Cause.DONE
