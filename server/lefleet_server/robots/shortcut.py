"""A short way for the one request of which thousands a second may come: a good heartbeat of a robot that is known.

Routing, dependencies and FastAPI's own layers cost several times what the heartbeat does. Whatever is unusual (an
unknown credential, a wrong field, a new one) goes the ordinary way, with the bytes that were read already: the
route `POST /robot/heartbeat` says what a heartbeat is, and its tests run on both ways.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lefleet_server import problems
from lefleet_server.limits import API, MAX_BODY_BYTES
from lefleet_server.metrics import Metrics
from lefleet_server.middleware import Observed, encoded, safe_headers
from lefleet_server.robots.beats import Beats, Said
from lefleet_server.robots.schemas import Heartbeat, HeartbeatAnswer
from lefleet_server.robots.watches import Watches
from lefleet_server.secret import ROBOT_PREFIX, digest

PATH = f"{API}/robot/heartbeat"
_BEARER = f"Bearer {ROBOT_PREFIX}"
_JSON = b"application/json"

log = structlog.get_logger()


class Shortcut:
    """Around all of the application, also what observes requests: counts and completes its own answers.

    `instance` is told in each answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        beats: Beats,
        watches: Watches,
        metrics: Metrics,
        https: bool,
        idle_s: float,
        instance: str,
    ) -> None:
        self._app = app
        self._beats = beats
        self._watches = watches
        self._metrics = metrics
        self._seconds = metrics.request_seconds.labels(PATH, "200")
        self._https = https
        self._idle_s = idle_s
        self._instance = instance
        self._headers = [*encoded(safe_headers(https)), (b"content-type", _JSON), (b"cache-control", b"no-store")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = self._known(scope) if scope.get("path") == PATH else None
        if sent is None:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        body = _Body(receive)
        try:
            robot_id = await self._stored(sent, body)
            if robot_id is None:
                await self._app(scope, body.again, send)
                return
            watched = await self._watches.watched(robot_id)
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            await self._failed(error, scope, body.again, send)
            return
        await self._answer(send, HeartbeatAnswer.now(self._watches.interval_s(watched), watched, self._instance))
        seconds = time.perf_counter() - began
        self._seconds.observe(seconds)
        log.debug("request", method="POST", path=PATH, status=200, seconds=round(seconds, 4))

    def _known(self, scope: Scope) -> bytes | None:
        """The hash of the credential, where this looks like a heartbeat of a robot that was heard before."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        names = dict(scope["headers"])
        token = names.get(b"authorization", b"").decode("latin-1")
        if not token.startswith(_BEARER) or names.get(b"content-type") != _JSON or b"content-encoding" in names:
            return None
        sent = digest(token.removeprefix("Bearer "))
        return sent if self._beats.knows(sent) else None

    async def _stored(self, sent: bytes, body: "_Body") -> str | None:
        """Whose it is, once it is stored; None where the ordinary way is to look."""
        text = await body.read(self._idle_s)
        if text is None:
            return None
        try:
            # Without a field that is not known: what is in one may nest deeper than JSON may.
            heartbeat = Heartbeat.model_validate_json(text, extra="forbid")
        except ValidationError:
            return None
        return await self._beats.store(sent, Said.of(heartbeat))

    async def _answer(self, send: Send, answer: HeartbeatAnswer) -> None:
        text = answer.model_dump_json().encode()
        own = {"content-length": str(len(text)), "x-request-id": secrets.token_hex(16)}
        await send({"type": "http.response.start", "status": 200, "headers": self._headers + encoded(own)})
        await send({"type": "http.response.body", "body": text})

    async def _failed(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(scope: Scope, receive: Receive, send: Send) -> None:
            scope["route"] = _Route
            answer = await problems.failed(scope, error)
            await answer(scope, receive, send)

        await Observed(tell, self._metrics, self._https)(scope, receive, send)


@dataclass(slots=True)
class _Body:
    """A request's body, which can be received again: the ordinary way begins at its beginning."""

    receive: Receive
    _kept: list[Message] = field(default_factory=list)

    async def read(self, idle_s: float) -> bytes | None:
        """All of it; None where it is empty, too large, or did not come within `idle_s`."""
        pieces: list[bytes] = []
        more = True
        try:
            async with asyncio.timeout(idle_s):
                while more and sum(map(len, pieces)) <= MAX_BODY_BYTES:
                    message = await self.receive()
                    self._kept.append(message)
                    pieces.append(message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:  # the ordinary way waits once more, and says what was missing
            return None
        text = b"".join(pieces)
        return text if not more and 0 < len(text) <= MAX_BODY_BYTES else None

    async def again(self) -> Message:
        return self._kept.pop(0) if self._kept else await self.receive()


class _Route:
    """What a failed request is counted under, as the router would have named it."""

    path = PATH.removeprefix(API)
