"""Which episodes leave a spool that is over its budget, in which order, and why. Pure: values in, values out.

What the server has goes first. What it lacks goes only when a setting allows that, the least valuable first: successes
can be had again any day, failures and what a person had to correct cannot.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from lefleet_agent.episode import Outcome


class WhenFull(StrEnum):
    """What to do once episodes that the server lacks fill the budget."""

    STOP = "stop"
    FREE_BY_VALUE = "free_by_value"


class Weighed(Protocol):
    """What an episode's worth depends on."""

    @property
    def bytes(self) -> int: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def interrupted(self) -> bool: ...
    @property
    def intervened(self) -> bool: ...
    @property
    def acknowledged(self) -> bool: ...


_ORDER = ("the server has it", "a success", "of unknown outcome", "a failure, interrupted or corrected by a person")


def worth(episode: Weighed) -> int:
    """Index into the order of leaving: 0 leaves first."""
    if episode.acknowledged:
        return 0
    if episode.interrupted or episode.intervened or episode.outcome is Outcome.FAILURE:
        return 3
    return 1 if episode.outcome is Outcome.SUCCESS else 2


def to_free[E: Weighed](oldest_first: Sequence[E], budget_bytes: int, when_full: WhenFull) -> list[tuple[E, str]]:
    """Which of the episodes to delete until the rest fits the budget, first to go first, each with its reason."""
    excess = sum(episode.bytes for episode in oldest_first) - budget_bytes
    leaving = []
    for episode in sorted(oldest_first, key=worth):  # stable: the oldest of equals goes first
        if excess <= 0 or (not episode.acknowledged and when_full is WhenFull.STOP):
            break
        leaving.append((episode, _reason(episode, excess, budget_bytes)))
        excess -= episode.bytes
    return leaving


def _reason(episode: Weighed, excess: int, budget_bytes: int) -> str:
    over = f"the spool is {excess} bytes over its budget of {budget_bytes}"
    if episode.acknowledged:
        return f"{_ORDER[0]}; {over}"
    return (
        f"the server does not have it; {over}, nothing that the server has is left, and spool_when_full is "
        f"{WhenFull.FREE_BY_VALUE}: it is {_ORDER[worth(episode)]}, the oldest of the least valuable"
    )
