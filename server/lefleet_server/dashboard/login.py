"""The log-in page: plain HTML that posts to the API, so that nobody unknown opens a live connection.

A link with a one-time code does not spend it when it is fetched (mail programs and chats look at links);
the page's script does, once a person sees it.
"""

from html import escape
from string import Template

from nicegui import app as nicegui_app
from starlette.requests import Request
from starlette.responses import HTMLResponse

from lefleet_server.accounts import login_note
from lefleet_server.dashboard import assets
from lefleet_server.dashboard.guard import LOGIN
from lefleet_server.services import Services

_PROVIDER = Template(
    '<p class="lf-login-or">or</p><a class="lf-button" id="provider" href="/api/v1/login/oidc">Log in with $name</a>'
)


def register(services: Services) -> None:
    settings = services.settings
    text = (assets.STATIC / "login.html").read_text(encoding="utf-8")
    provider = _PROVIDER.substitute(name=escape(settings.oidc_name).replace("$", "$$")) if settings.oidc_issuer else ""
    page = Template(text).safe_substitute(base=assets.BASE, brand=assets.BRAND, provider=provider)

    async def show(request: Request) -> HTMLResponse:
        note = login_note.read(request.cookies)
        shown = Template(page).substitute(note=escape(note), note_hidden="" if note else " hidden")
        answer = HTMLResponse(shown, headers={"Cache-Control": "no-store"})
        if note:
            login_note.end(answer, secure=settings.secure_cookies)
        return answer

    nicegui_app.add_route(LOGIN, show, include_in_schema=False)
