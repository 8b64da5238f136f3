"""API tokens as a list, each with a button that ends it."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial

from lefleet_server.accounts.models import ApiToken
from lefleet_server.dashboard.dialogs import button
from lefleet_server.dashboard.lists import Column, Lines, cell, line, main_cell
from lefleet_server.dashboard.parts import Chip, Text, Time, box, empty
from lefleet_server.db import utc_now

_SOON = timedelta(days=7)
_OWNER = Column("Owner", "minmax(90px, 1fr)")
_COLUMNS = (
    Column("Token", "minmax(150px, 2fr)"),
    Column("May", "minmax(150px, 1.3fr)"),
    Column("Last used", "minmax(100px, 1fr)"),
    Column("Expires", "minmax(110px, 1fr)"),
    Column("", "112px", "is-right"),
)


class TokenList:
    """Calls `revoke` with the token that a person wants ended."""

    def __init__(self, revoke: Callable[[ApiToken], Awaitable[None]], *, with_owner: bool) -> None:
        self._revoke = revoke
        self._with_owner = with_owner
        columns = (_COLUMNS[0], _OWNER, *_COLUMNS[1:]) if with_owner else _COLUMNS
        self._lines = Lines(columns, "Tokens")

    def show(self, found: Sequence[tuple[ApiToken, str]]) -> None:
        """Tokens with their owners' names."""
        if not found:
            with self._lines.only():
                text = "A program logs in with a token: a script, Prometheus, or the command line lefleet."
                empty("tokens", "No tokens", text)
            return
        with self._lines.rebuild():
            for token, owner in found:
                self._build_line(token, owner)

    def _build_line(self, token: ApiToken, owner: str) -> None:
        with line(data_token=token.name):
            main_cell(token.name, f"{token.prefix}…")
            if self._with_owner:
                with cell("Owner", "lf-cut"):
                    Text(owner, "lf-cut")
            with cell("May", "lf-line-chips"):
                for scope in token.scopes:
                    Chip(scope, "off", "is-plain")
            with cell("Last used", "lf-muted"):
                Time(token.used_at, "ago")
            with cell("Expires", "lf-muted"), box() as expires:
                Time(token.expires_at)
            if token.expires_at < utc_now() + _SOON:
                expires.props["data-tone"] = "warn"
            with cell("", "is-right is-act"):
                button("Revoke", partial(self._revoke, token))
