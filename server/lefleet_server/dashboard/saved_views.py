"""Views of a page that a person keeps under a name: the browser shows them, this side keeps them."""

import json
from collections.abc import Sequence

from nicegui import ui
from nicegui.events import GenericEventArguments
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.auth import Principal
from lefleet_server.dashboard.acting import Acting
from lefleet_server.services import Services
from lefleet_server.views import service
from lefleet_server.views.models import SavedView


class SavedViews:
    """Gives `element` its attribute `views`, [[name, query], ...], and does what its events `save` and `forget` ask."""

    def __init__(
        self, services: Services, request: Request, page: str, element: ui.element, kept: Sequence[SavedView]
    ) -> None:
        self._acting = Acting(services, request)
        self._page = page
        self._element = element
        self._show(kept)
        element.on("save", self._save, ["detail"])
        element.on("forget", self._forget, ["detail"])

    def _show(self, kept: Sequence[SavedView]) -> None:
        self._element.props["views"] = json.dumps([[view.name, view.query] for view in kept])

    async def _save(self, event: GenericEventArguments) -> None:
        name, query = event.args["detail"]
        await self._change(str(name), str(query))

    async def _forget(self, event: GenericEventArguments) -> None:
        await self._change(str(event.args["detail"]), None)

    async def _change(self, name: str, query: str | None) -> None:
        async def work(session: AsyncSession, who: Principal) -> Sequence[SavedView]:
            if query is None:
                await service.forget(session, who.user, self._page, name)
            else:
                await service.save(session, who.user, self._page, name, query)
            return await service.list_views(session, who.user.id, self._page)

        await self._acting.change(Role.VIEWER, work, self._show)
