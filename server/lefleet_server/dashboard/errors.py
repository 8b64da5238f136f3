"""Pages for what went wrong: they say what to do, never what the program was doing."""

from http import HTTPStatus

import structlog
from nicegui import app as nicegui_app
from nicegui.client import Client
from nicegui.page import page
from starlette.requests import Request
from starlette.responses import Response

from lefleet_server.dashboard.frame import frame
from lefleet_server.dashboard.guard import is_open
from lefleet_server.dashboard.parts import Text, empty, link

log = structlog.get_logger()


def register() -> None:
    nicegui_app.exception_handler(HTTPStatus.NOT_FOUND)(_not_found)
    nicegui_app.on_page_exception(_failed)


def nothing_here(title: str, text: str, target: str = "/", word: str = "Back to the fleet") -> None:
    """The body of a page whose subject does not exist, with a way on."""
    with empty("arm", title, text), link(target, "lf-button"):
        Text(word, tag="span")


async def _not_found(request: Request, _: Exception) -> Response:
    if is_open(request.url.path):
        return Response(status_code=HTTPStatus.NOT_FOUND)  # a script or style, asked for before any log-in
    with Client(page(""), request=request) as client:
        client.title = "Not found · LeFleet"
        with frame(request, ""):
            nothing_here("There is no such page", f"Nothing is at {request.url.path}. The link may be old.")
    return client.build_response(request, HTTPStatus.NOT_FOUND)


def _failed(error: Exception) -> None:
    log.error("page failed", exc_info=error)
    text = "Try again in a moment. If it stays so, the server's log says why."
    with empty("arm", "This page could not be built", text), link("", "lf-button"):
        Text("Try again", tag="span")
