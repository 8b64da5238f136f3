"""A person's log-ins as a list, each with a button that ends it."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from lefleet_server.accounts.models import LoginSession
from lefleet_server.dashboard.agents import name_of
from lefleet_server.dashboard.dialogs import button
from lefleet_server.dashboard.lists import Column, Lines, cell, line
from lefleet_server.dashboard.parts import Chip, Text, Time, box, empty, set_attribute

_COLUMNS = (
    Column("Program", "minmax(140px, 2fr)"),
    Column("Address", "minmax(110px, 1fr)"),
    Column("Last used", "minmax(100px, 1fr)"),
    Column("Logged in", "minmax(110px, 1fr)"),
    Column("Ends", "minmax(110px, 1fr)"),
    Column("", "112px", "is-right"),
)


class Logins:
    """Calls `end` with the log-in that a person wants ended."""

    def __init__(self, end: Callable[[LoginSession], Awaitable[None]]) -> None:
        self._end = end
        self._lines = Lines(_COLUMNS, "Log-ins")

    def show(self, found: Sequence[LoginSession], current: int | None = None) -> None:
        """`current`: the one that looks, which is ended by logging out."""
        if not found:
            with self._lines.only():
                empty("people", "No log-ins", "Nobody is logged in with this account now.")
            return
        with self._lines.rebuild():
            for login in found:
                self._build_line(login, login.id == current)

    def _build_line(self, login: LoginSession, is_current: bool) -> None:
        with line(data_session=str(login.id)):
            with box("lf-line-cell is-main") as main:
                Text(name_of(login.agent), "lf-cell-main lf-cut")
            set_attribute(main, "title", login.agent)
            with cell("Address", "lf-muted lf-cut"):
                Text(login.address or "unknown", "lf-cut")
            with cell("Last used", "lf-muted"):
                Time(login.seen_at, "ago")
            with cell("Logged in", "lf-muted"):
                Time(login.created_at)
            with cell("Ends", "lf-muted"):
                Time(login.expires_at)
            with cell("", "is-right is-act"):
                if is_current:
                    Chip("This one", "good", "is-plain")
                else:
                    button("End", partial(self._end, login))
