"""Who decides, tick by tick, where the arm goes: a policy's chunks, a person at a leader arm, or both in turn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lefleet_agent.episode import Action, Observation
from lefleet_agent.policy import ActionChunk


@dataclass(frozen=True, slots=True)
class Planned:
    """What to do in one tick."""

    action: Action | None
    """None: there is nothing to do, hold the position."""
    observed_ns: int = 0
    """When what the action answers to was seen, monotonic; 0 where there is no action."""
    arrived: ActionChunk | None = None
    """The chunk that came in at this tick."""
    join_ticks: int = 1
    """In so many even steps the arm is to be where the action says: more than one while another driver takes over."""
    intervention: bool = False
    """A person leads the arm."""
    why: str = ""
    """What a person at the leader arm lacks where there is no action; empty for a policy."""


class Driver(Protocol):
    """Drives the arm of one loop; one thread. Only `ready` may wait."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those that it looks at: the arm holds still when their pictures are too old."""

    def ready(self, task: str, seen: Observation, give_up: Callable[[], bool]) -> bool:
        """Forget what was before and get ready while the arm rests; False when `give_up` said so.

        Raises PolicyError.
        """

    def next(self, seen: Observation, last: Action) -> Planned:
        """What to do now. `last`: what was sent before. Raises PolicyError when there will be no more."""

    def hold(self) -> Planned:
        """Instead of `next`, in a tick that has nothing fresh to act on."""
