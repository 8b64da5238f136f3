"""Around every request: time it, bound its body, and send the headers that browsers need."""

import time
from collections.abc import Iterable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lefleet_server.metrics import Metrics
from lefleet_server.problems import TooLarge, response

MAX_BODY_BYTES = 2 << 20
API = "/api/v1"
UPLOADS = f"{API}/robot/uploads/"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}
log = structlog.get_logger()


class Observed:
    """Counts and times requests by route template (never by path: ids grow without end)."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            seconds = time.perf_counter() - began
            self._metrics.request_seconds.labels(_route(scope), str(status)).observe(seconds)
            log.debug("request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4))


class BoundedBody:
    """Refuses bodies over 2 MiB on the API; uploads have their own limit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/") or scope["path"].startswith(UPLOADS):
            await self._app(scope, receive, send)
            return
        if _declared_length(Headers(scope=scope).getlist("content-length")) > MAX_BODY_BYTES:
            await response(TooLarge(_TOO_LARGE))(scope, receive, send)
            return
        received = 0

        async def receive_on() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                # FastAPI passes on this exception alone when reading a body fails.
                raise HTTPException(413, _TOO_LARGE)
            return message

        await self._app(scope, receive_on, send)


_TOO_LARGE = f"the body has more than {MAX_BODY_BYTES} bytes"


def _declared_length(values: Iterable[str]) -> int:
    return max((int(value) for value in values if value.isdigit()), default=0)


def _route(scope: Scope) -> str:
    route = scope.get("route")
    if route is None:
        return "unmatched"
    path = str(getattr(route, "path", ""))
    # FastAPI leaves the prefix of an included router out of its routes.
    return (API if scope["path"].startswith(f"{API}/") else "") + path or "dashboard"
