"""The log-in page: plain HTML that posts to the API, so that nobody unknown opens a live connection.

A link with a one-time code does not spend it when it is fetched (mail programs and chats look at links);
the page's script does, once a person sees it.
"""

from string import Template

from nicegui import app as nicegui_app
from starlette.requests import Request
from starlette.responses import HTMLResponse

from lefleet_server.dashboard import assets
from lefleet_server.dashboard.guard import LOGIN


def register() -> None:
    text = (assets.STATIC / "login.html").read_text(encoding="utf-8")
    page = Template(text).substitute(base=assets.BASE, brand=assets.BRAND)

    async def show(_: Request) -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    nicegui_app.add_route(LOGIN, show, include_in_schema=False)
