"""Finds out that the server lost episodes: one that was restored from last night's backup does not announce it."""

import time
from collections import deque
from collections.abc import Callable
from itertools import batched

import structlog

from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import UploadGone
from lefleet_agent.spool import Spool

log = structlog.get_logger()

PAGE = 500
LOOK_S = 1.0
AGAIN_S = 60.0
"""Between two checks at least: the processes of a server that was restored start one after another."""
KNOWN = 32
"""Starts that are remembered: a server of several processes answers with theirs in turn."""
ALWAYS_S = 86400.0
UNKNOWN_S = 3600.0


class LossCheck:
    """Asks for what has a receipt and is still on this disk: at its start, when the server started, and once a day."""

    def __init__(
        self,
        api: ServerApi,
        spool: Spool,
        counted: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`counted` is told how many episodes wait again."""
        self._api = api
        self._spool = spool
        self._counted = counted
        self._clock = clock
        self._heard = ""
        self._asked: deque[str] = deque(maxlen=KNOWN)
        self._asked_at_s: float | None = None

    def heard(self, instance: str) -> None:
        """A heartbeat was answered by this start of the server."""
        self._heard = instance

    def __call__(self) -> float:
        """Check if it is time; returns when to look again, seconds. Raises ServerError, SpoolError."""
        if not self._due():
            return LOOK_S
        instance, now_s = self._heard, self._clock()
        try:
            self.check()
        except UploadGone as error:
            log.warning("this server cannot say what it lost; update it", error=str(error))
            return UNKNOWN_S
        self._asked.append(instance)
        self._asked_at_s = now_s
        return LOOK_S

    def check(self) -> int:
        """Ask now; returns how many episodes wait again."""
        again = 0
        for page in batched(self._spool.acknowledged(), PAGE):
            missing = self._api.missing([episode.sha256 for episode in page])
            lost = [episode for episode in page if episode.sha256 in missing]
            again += len(self._spool.offer_again(lost, "the server gave a receipt and no longer has it"))
        self._counted(again)
        return again

    def _due(self) -> bool:
        if self._asked_at_s is None:
            return True
        age_s = self._clock() - self._asked_at_s
        return age_s >= ALWAYS_S or (self._heard not in self._asked and age_s >= AGAIN_S)
