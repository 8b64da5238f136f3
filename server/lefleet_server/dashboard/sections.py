"""The one way to add a page: whoever may not see it is told so, whatever they typed."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from nicegui import ui
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard.frame import frame
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Text, empty, link

type Page = Callable[..., Awaitable[None]]


def page_for(path: str, title: str, needs: Role) -> Callable[[Page], Page]:
    """Registers a page, as ui.page does, for people with this role and higher ones. It takes `request` first."""

    def register(build: Page) -> Page:
        @functools.wraps(build)
        async def guarded(request: Request, **values: Any) -> None:
            user = user_on(request)
            if Role(user.role).covers(needs):
                await build(request, **values)
                return
            ui.context.client.status_code = HTTPStatus.FORBIDDEN
            with frame(request, ""):
                _refuse(user.role, needs)

        # FastAPI reads the page's own parameters from it.
        guarded.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]
        ui.page(path, title=f"{title} · LeFleet", response_timeout=15)(guarded)
        return guarded

    return register


def _refuse(role: str, needs: Role) -> None:
    text = f"It needs the role {needs}; yours is {role}. An administrator can change that under People."
    with empty("lock", "This page is not yours to see", text), link("/", "lf-button"):
        Text("Back to the fleet", tag="span")
