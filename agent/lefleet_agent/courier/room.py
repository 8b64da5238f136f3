"""Keeps the spool within its budget, whatever uploads are at, and counts what left it."""

from lefleet_agent.metrics import CourierMetrics
from lefleet_agent.retention import WhenFull
from lefleet_agent.spool import Spool, SpoolError

LOOK_S = 5.0


class Room:
    """One look after another at the spool. The index counts, so that what control freed counts too."""

    def __init__(self, spool: Spool, budget_bytes: int, when_full: WhenFull, metrics: CourierMetrics) -> None:
        self._spool = spool
        self._budget_bytes = budget_bytes
        self._when_full = when_full
        self._metrics = metrics

    def __call__(self) -> float:
        """Returns when to look again, seconds. Raises SpoolError."""
        try:
            self._spool.free_to_budget(self._budget_bytes, self._when_full)
            lost = self._spool.stats().lost_episodes
            self._metrics.freed(self._spool.freed_episodes() - lost, lost)
        except SpoolError:
            self._metrics.spool_usable.set(0)
            raise
        self._metrics.spool_usable.set(1)
        return LOOK_S
