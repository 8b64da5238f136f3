"""Views of a page that a person keeps under a name: the browser shows them, this side keeps them."""

import json
from collections.abc import Sequence

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from lefleet_server.auth import user_of
from lefleet_server.problems import Conflict, Invalid
from lefleet_server.services import Services
from lefleet_server.views import service
from lefleet_server.views.models import SavedView


class SavedViews:
    """Gives `element` its attribute `views`, [[name, query], ...], and does what its events `save` and `forget` ask."""

    def __init__(
        self, services: Services, request: Request, page: str, element: ui.element, kept: Sequence[SavedView]
    ) -> None:
        self._services = services
        self._request = request
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
        # The page may have been open for a day: what counts is who this is now.
        user = await user_of(self._services.db, self._request)
        if user is None:
            ui.notify("Your views are not saved: log in again.", type="negative")
            return
        try:
            async with self._services.db.transaction() as session:
                if query is None:
                    await service.forget(session, user, self._page, name)
                else:
                    await service.save(session, user, self._page, name, query)
        except (Invalid, Conflict) as error:
            ui.notify(error.detail, type="negative")
        async with self._services.db.session() as session:
            self._show(await service.list_views(session, user.id, self._page))
