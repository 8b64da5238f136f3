"""A short way for the one request of which thousands a second may come: a good heartbeat of a robot that is known.

Routing, dependencies and FastAPI's own layers cost several times what the heartbeat does. Whatever is unusual (an
unknown credential, a body in pieces, a wrong field) goes the ordinary way, with the bytes that were read already: the
route `POST /robot/heartbeat` says what a heartbeat is, and its tests run on both ways.
"""

import asyncio
from contextlib import suppress

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lefleet_server import problems
from lefleet_server.limits import API, MAX_BODY_BYTES
from lefleet_server.robots.beats import Beats, Said
from lefleet_server.robots.exposition import Checked
from lefleet_server.robots.schemas import Heartbeat, HeartbeatAnswer
from lefleet_server.robots.watches import Watches
from lefleet_server.secret import ROBOT_PREFIX, digest

PATH = f"{API}/robot/heartbeat"
_BEARER = f"Bearer {ROBOT_PREFIX}"
_JSON = b"application/json"


class Shortcut:
    """Around all of the API. `instance` is told in each answer."""

    def __init__(
        self, app: ASGIApp, beats: Beats, expositions: Checked, watches: Watches, idle_s: float, instance: str
    ) -> None:
        self._app = app
        self._beats = beats
        self._expositions = expositions
        self._idle_s = idle_s
        self._watches = watches
        self._instance = instance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = self._known(scope) if scope.get("path") == PATH else None
        if sent is None:
            await self._app(scope, receive, send)
            return
        first: Message | None = None
        with suppress(TimeoutError):  # the ordinary way waits once more, and says what was missing
            async with asyncio.timeout(self._idle_s):
                first = await receive()
        try:
            robot_id = None if first is None else await self._stored(sent, first)
            if robot_id is None:
                await self._app(scope, _again(first, receive), send)
                return
            watched = await self._watches.watched(robot_id)
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            answer = await problems.failed(scope, error)
            await answer(scope, receive, send)
            return
        await _answer(scope, send, HeartbeatAnswer.now(self._watches.interval_s(watched), watched, self._instance))

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

    async def _stored(self, sent: bytes, message: Message) -> str | None:
        """Whose it is, once it is stored; None where the ordinary way is to look."""
        body: bytes = message.get("body", b"")
        if message.get("more_body", False) or not 0 < len(body) <= MAX_BODY_BYTES:
            return None
        try:
            heartbeat = Heartbeat.model_validate_json(body)
        except ValidationError:
            return None
        if not self._expositions.knows(heartbeat.metrics):
            return None
        return await self._beats.store(sent, Said.of(heartbeat))


def _again(first: Message | None, receive: Receive) -> Receive:
    """What was received already, then the rest."""
    waiting = [first] if first is not None else []

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


async def _answer(scope: Scope, send: Send, answer: HeartbeatAnswer) -> None:
    scope["route"] = _Route
    body = answer.model_dump_json().encode()
    headers = [(b"content-type", _JSON), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Route:
    """What the request's metrics are counted under, as the router would have named it."""

    path = PATH.removeprefix(API)
