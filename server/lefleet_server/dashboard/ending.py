"""Open pages whose log-in has ended, or may do less than when they were drawn, do not stay open."""

import asyncio

import structlog
from nicegui import app as nicegui_app
from nicegui import core
from nicegui.client import Client

from lefleet_server.accounts import sessions
from lefleet_server.accounts.models import Role
from lefleet_server.auth import Principal
from lefleet_server.db import FAILURES
from lefleet_server.services import Services

EVERY_S = 3.0
log = structlog.get_logger()


def register(services: Services) -> None:
    """Looks every EVERY_S seconds after all pages that are open at this process, by one question to the database."""

    async def look() -> None:
        try:
            await end_pages(services)
        except FAILURES as error:
            log.warning("open pages stay: whose log-in has ended is not known", error=str(error)[:200])

    nicegui_app.timer(EVERY_S, look, immediate=False)


async def end_pages(services: Services) -> None:
    """Ends each page whose person may not see it as it is. Asks nothing when none is open. Raises db.FAILURES."""
    pages = [(client, login) for client in Client.instances.values() if (login := _login_of(client)) is not None]
    if not pages:
        return
    async with services.db.session() as session:
        now = await sessions.roles_of(session, {login.session_id for _, login in pages if login.session_id is not None})
    ended = [client for client, login in pages if not _may_stay(login, now.get(login.session_id or 0))]
    await asyncio.gather(*map(_end, ended))


def _login_of(client: Client) -> Principal | None:
    """As it was when the page was drawn; None for a page that is not connected: nothing is sent to it."""
    if not client.has_socket_connection:
        return None
    login: Principal | None = getattr(client.request.state, "login", None)
    return login


def _may_stay(login: Principal, role: Role | None) -> bool:
    """`role`: what the person is now; None when the log-in has ended."""
    return role is not None and role.covers(Role(login.user.role))


async def _end(client: Client) -> None:
    # Past the client's outbox, which ends with it. Loading anew asks the guard, which draws the page for what the
    # person is now or leads to the log-in; a browser that does not obey is told nothing more either.
    await core.sio.emit("run_javascript", {"code": "window.location.reload()"}, room=client.id)
    if not client.is_deleted:
        client.delete()
