"""Around every request: say where it comes from, time it, and send the headers that browsers need."""

import time
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lefleet_server.audit import origin
from lefleet_server.limits import API
from lefleet_server.metrics import Metrics

log = structlog.get_logger()


def safe_headers(https: bool) -> dict[str, str]:
    """What every answer carries. Pages loosen the policy for themselves (dashboard.headers)."""
    headers = {
        "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    # Without includeSubDomains: what else a lab runs below this name is not ours to decide.
    return headers | ({"Strict-Transport-Security": "max-age=31536000"} if https else {})


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """As ASGI sends them."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


class Observed:
    """Counts and times requests by route template (never by path: ids grow without end)."""

    def __init__(self, app: ASGIApp, metrics: Metrics, https: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._headers = encoded(safe_headers(https))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        of = origin.begin(scope)
        with structlog.contextvars.bound_contextvars(request_id=of.request_id):
            if scope["type"] == "http":
                await self._http(of.request_id, scope, receive, send)
            else:
                await self._app(scope, receive, send)

    async def _http(self, request_id: Any, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = headers = [(name.lower(), value) for name, value in message.get("headers", ())]
                self._complete(headers, scope["path"], request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            seconds = time.perf_counter() - began
            self._metrics.request_seconds.labels(_route(scope), str(status)).observe(seconds)
            log.debug("request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4))

    def _complete(self, headers: list[tuple[bytes, bytes]], path: str, request_id: str) -> None:
        there = {name for name, _ in headers}
        headers += [each for each in self._headers if each[0] not in there]
        headers.append((b"x-request-id", request_id.encode()))
        if path.startswith("/api/") and b"cache-control" not in there:
            headers.append((b"cache-control", b"no-store"))


def _route(scope: Scope) -> str:
    route = scope.get("route")
    if route is None:
        return "unmatched"
    path = str(getattr(route, "path", ""))
    # FastAPI leaves the prefix of an included router out of its routes.
    return (API if scope["path"].startswith(f"{API}/") else "") + path or "dashboard"
