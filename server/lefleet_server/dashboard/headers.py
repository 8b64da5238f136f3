"""What the browser may do on our pages: load from here and nowhere else, and stand in nobody's frame."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COMMON = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'; style-src 'self' 'unsafe-inline'; "
)
# NiceGUI writes each page's elements into an inline script and compiles its components in the browser.
_PAGES = _COMMON + "script-src 'self' 'unsafe-inline' 'unsafe-eval'"
_LOGIN = _COMMON + "script-src 'self'"


class ContentPolicy:
    """Adds Content-Security-Policy to everything the dashboard answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = _LOGIN if scope["path"] == "/login" else _PAGES
                MutableHeaders(scope=message)["Content-Security-Policy"] = policy
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)
