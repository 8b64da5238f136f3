"""Changes made from an open page, by the services that the API uses, so that the audit log has the person's name."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from nicegui import ui
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from lefleet_server import db
from lefleet_server.accounts.models import Role
from lefleet_server.auth import Principal, login_of
from lefleet_server.problems import Problem
from lefleet_server.services import Services

log = structlog.get_logger()

type Work[R] = Callable[[AsyncSession, Principal], Awaitable[R]]
FAILURES = (Problem, *db.FAILURES)

type Then = Callable[..., Any]


class Acting:
    """What one viewer does on one page. Built with the page; what it says appears there."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._request = request
        self._client = ui.context.client

    @property
    def address(self) -> str:
        """Where the viewer's requests come from."""
        return self._request.client.host if self._request.client else "local"

    async def who(self, needs: Role) -> Principal | None:
        """The viewer as they are now; None, and told why, when that is not enough."""
        # The page may have been open for a day: what counts is what this person may do now.
        found = await login_of(self._services.db, self._request)
        if found is None:
            self.say("You are logged out. Load this page again and log in.")
        elif not Role(found.user.role).covers(needs):
            self.say(f"This needs the role {needs}; yours is {found.user.role} now.")
            return None
        return found

    async def change[R](self, needs: Role, work: Work[R], then: Then) -> None:
        """Does the work in one transaction and calls `then` with its result; says why when it was refused."""
        try:
            who = await self.who(needs)
            if who is None:
                return
            async with self._services.db.transaction() as session:
                result = await work(session, who)
        except FAILURES as error:
            self.say(told(error))
        else:
            await self._show(then, result)

    async def look[R](self, needs: Role, work: Callable[[], Awaitable[R]], then: Then) -> None:
        """Calls `then` with what the work found; it changes nothing, and has sessions of its own."""
        try:
            if await self.who(needs) is None:
                return
            found = await work()
        except FAILURES as error:
            self.say(told(error))
        else:
            await self._show(then, found)

    async def _show(self, then: Then, found: object) -> None:
        try:
            done = then(found)
            if inspect.isawaitable(done):
                await done
        except db.FAILURES as error:
            log.warning("a page stays as it was", error=str(error)[:200])
            self.say("It is done, but the server's database does not answer any more: load this page again.")

    def say(self, text: str, *, good: bool = False) -> None:
        """Shows it for a moment, on this page wherever the element that asked has gone."""
        with self._client:
            ui.notify(text, type="positive" if good else "negative")


def tell(error: Exception) -> None:
    """Shows on the page, to be closed by hand, that what a person did was not done; other errors are the log's."""
    if isinstance(error, FAILURES):
        ui.notify(told(error), type="negative", timeout=0, close_button="Close", multi_line=True)


def told(error: Exception) -> str:
    """What a person reads when one of FAILURES ended their change: nothing of it was done."""
    if not isinstance(error, Problem):
        log.warning("a change from a page failed", error=str(error)[:300])
        return "The server's database does not answer. Nothing was changed; try again in a moment."
    detail = error.detail
    text = detail[:1].upper() + detail[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def actor(who: Principal) -> str:
    """As the audit log names a person."""
    return f"user:{who.user.username}"
