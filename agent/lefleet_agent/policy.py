"""The edge towards whatever decides the next actions."""

from dataclasses import dataclass
from typing import Protocol

from lefleet_agent.episode import Floats, Observation, PolicyInfo


class PolicyError(Exception):
    """The policy cannot be used: the message names the file or feature, its value and the remedy."""


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """Consecutive joint targets, one for each tick."""

    actions: Floats
    """Shape (steps, joints), in the robot's joint order and units."""


class Policy(Protocol):
    @property
    def info(self) -> PolicyInfo: ...

    def reset(self) -> None:
        """Forget the episode that ended."""

    def infer(self, observation: Observation, task: str) -> ActionChunk:
        """The actions from this observation on."""
