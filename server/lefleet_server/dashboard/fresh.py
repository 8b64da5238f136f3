"""Pages that keep themselves up to date, and say so when they cannot."""

from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from nicegui import ui

from lefleet_server.dashboard.parts import Text, Time, box
from lefleet_server.db import FAILURES, utc_now

log = structlog.get_logger()

type Refresh = Callable[[], Awaitable[None]]

_AGAIN_S = 2.0


class Fresh:
    """Stands at the top of every page; shown, with the time since when, only while what is below it is old."""

    def __init__(self) -> None:
        self._old: set[Refresh] = set()
        self._regular: set[Refresh] = set()
        with box("lf-note lf-old", role="status") as self._note, box(tag="span"):
            Text("The server's database does not answer: what you see is from before, last read ", tag="span")
            self._read_at = Time(utc_now(), "ago")
            Text(". It is asked again by itself.", tag="span")
        self._note.set_visibility(False)
        self._last = utc_now()

    def every(self, seconds: float, refresh: Refresh, *, immediate: bool = False) -> None:
        """Calls `refresh` so often, for as long as the page is open."""
        self._regular.add(refresh)
        ui.timer(seconds, partial(self.now, refresh), immediate=immediate)

    async def now(self, refresh: Refresh) -> None:
        """Calls it. A database that is away is told above the page and not raised, and asked again until it answers."""
        try:
            await refresh()
        except FAILURES as error:
            log.warning("a page stays as it was", error=str(error)[:200])
            if refresh not in self._old | self._regular:
                with self._note:
                    ui.timer(_AGAIN_S, partial(self._again, refresh), once=True)
            self._old.add(refresh)
        else:
            self._old.discard(refresh)
        if self._old:
            self._read_at.set(self._last)
        else:
            self._last = utc_now()
        self._note.set_visibility(bool(self._old))

    async def _again(self, refresh: Refresh) -> None:
        self._old.discard(refresh)
        await self.now(refresh)
