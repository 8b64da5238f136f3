"""Pages that keep themselves up to date, and say so when they cannot."""

from collections.abc import Awaitable, Callable

import structlog
from nicegui import ui

from lefleet_server.dashboard.parts import Text
from lefleet_server.db import FAILURES

log = structlog.get_logger()


class Fresh:
    """Stands at the top of a page; shown only while what is below it is old."""

    def __init__(self) -> None:
        text = "The server's database does not answer: what you see is from before. It is asked again by itself."
        self._note = Text(text, "lf-note")
        self._note.set_visibility(False)

    def every(self, seconds: float, refresh: Callable[[], Awaitable[None]]) -> None:
        """Calls `refresh` so often, for as long as the page is open."""

        async def again() -> None:
            try:
                await refresh()
            except FAILURES as error:
                log.warning("a page stays as it was", error=str(error)[:200])
                self._note.set_visibility(True)
            else:
                self._note.set_visibility(False)

        ui.timer(seconds, again, immediate=False)
