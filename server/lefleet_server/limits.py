"""What a request may cost before anybody has looked at it: bytes of head and body, nesting, time. All are 4xx."""

import asyncio
import json
import re
import time
from collections.abc import Iterable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lefleet_server.problems import Problem, TooLarge, WrongMediaType, response
from lefleet_server.protocol import MAX_HEAD_BYTES

MAX_BODY_BYTES = 2 << 20
MAX_JSON_DEPTH = 32
API = "/api/v1"
UPLOADS = f"{API}/robot/uploads/"
_TOO_LARGE = f"the body has more than {MAX_BODY_BYTES} bytes"
_BRACKETS = re.compile(rb"[][{}]")


class HeadTooLarge(Problem):
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    kind = "request-header-fields-too-large"


class Limits:
    """Refuses what is too large, too deep, too slow or packed. Uploads have their own limit of size."""

    def __init__(self, app: ASGIApp, idle_s: float) -> None:
        self._app = app
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if problem := _refusal(scope, headers):
            await response(problem)(scope, receive, send)
            return
        if not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
        elif scope["path"].startswith(UPLOADS):
            await self._app(scope, _Patient(receive, self._idle_s).upload, send)
        else:
            await self._app(scope, _Body(receive, self._idle_s, _is_json(headers)).receive, send)


class _Patient:
    """Passes a body on as long as it keeps coming."""

    def __init__(self, receive: Receive, idle_s: float) -> None:
        self._receive = receive
        self._idle_s = idle_s
        self._complete = False

    async def next(self, within_s: float) -> Message | None:
        """None when nothing came in time."""
        if self._complete:
            return await self._receive()  # only whether the client is still there
        try:
            message = await asyncio.wait_for(self._receive(), within_s)
        except TimeoutError:
            return None
        self._complete = not message.get("more_body", False)
        return message

    async def upload(self) -> Message:
        """An upload that stops coming has vanished: what arrived is kept."""
        return await self.next(self._idle_s) or {"type": "http.disconnect"}


class _Body(_Patient):
    """One body of the API, which is read whole."""

    def __init__(self, receive: Receive, idle_s: float, json: bool) -> None:
        super().__init__(receive, idle_s)
        self._until_s = time.monotonic() + 4 * idle_s
        self._json = json
        self._pieces: list[bytes] = []
        self._received = 0

    async def receive(self) -> Message:
        # FastAPI passes on HTTPException alone when reading a body fails.
        if self._complete:
            return await self._receive()
        message = await self.next(min(self._idle_s, max(0.0, self._until_s - time.monotonic())))
        if message is None:
            raise HTTPException(
                408, f"the body did not come: nothing for {self._idle_s:g} s, or not all in four times that"
            )
        piece = message.get("body", b"")
        self._received += len(piece)
        if self._received > MAX_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE)
        if self._json:
            self._pieces.append(piece)
            if self._complete and (refused := _refused(b"".join(self._pieces))):
                raise HTTPException(400, refused)
        return message


def _refused(text: bytes) -> str:
    """Why this is not parsed; empty where it may be."""
    # What the parser itself goes by; in UTF-16 and UTF-32 no byte is what it looks like.
    encoding = json.detect_encoding(text)
    if not encoding.startswith("utf-8"):
        return f"the JSON is encoded as {encoding.upper()}; send it as UTF-8"
    return f"the JSON is nested deeper than {MAX_JSON_DEPTH}" if is_too_deep(text) else ""


def is_too_deep(text: bytes) -> bool:
    """Whether brackets outside strings nest deeper than MAX_JSON_DEPTH: the parser would run out of stack."""
    if text.count(b"{") + text.count(b"[") <= MAX_JSON_DEPTH:
        return False
    # Without escaped quotes every other quote ends a string: robots' metrics are long ones, full of brackets.
    outside = b"".join(text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    depth = 0
    for bracket in _BRACKETS.finditer(outside):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > MAX_JSON_DEPTH:
            return True
    return False


def _refusal(scope: Scope, headers: Headers) -> Problem | None:
    head = sum(len(name) + len(value) + 4 for name, value in scope["headers"]) + len(scope.get("query_string", b""))
    if head > MAX_HEAD_BYTES:
        return HeadTooLarge(f"the request's head has more than {MAX_HEAD_BYTES} bytes")
    if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        return WrongMediaType(
            "send the body as it is, not compressed: a small one may unpack to a huge one",
            fields=[("Content-Encoding", "must be left out")],
            headers={"Accept-Encoding": "identity"},
        )
    bounded = scope["path"].startswith("/api/") and not scope["path"].startswith(UPLOADS)
    if bounded and _declared_length(headers.getlist("content-length")) > MAX_BODY_BYTES:
        return TooLarge(_TOO_LARGE)
    return None


def _is_json(headers: Headers) -> bool:
    kind = headers.get("content-type", "json")
    return "json" in kind.lower()


def _declared_length(values: Iterable[str]) -> int:
    return max((int(value) for value in values if value.isdigit()), default=0)
