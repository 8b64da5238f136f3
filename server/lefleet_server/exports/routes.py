"""Episodes for Rerun and Foxglove."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from lefleet_server import ranges
from lefleet_server.auth import CurrentUser, ServicesDep
from lefleet_server.exports import Format, service
from lefleet_server.threads import in_thread

router = APIRouter(tags=["people"])

_PIECE_BYTES = 1 << 20
_LOOK_S = 1.0
_TYPES = {Format.RRD: "application/vnd.rerun.rrd", Format.MCAP: "application/mcap"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.get(
    "/episodes/{episode_id}/export.{kind}",
    response_class=Response,
    responses={
        200: {"content": dict.fromkeys(_TYPES.values(), _BINARY)},
        206: {"content": dict.fromkeys(_TYPES.values(), _BINARY), "description": "The part that `Range` asks for."},
    },
)
async def get_export(
    episode_id: str,
    kind: Format,
    request: Request,
    user: CurrentUser,
    services: ServicesDep,
    wanted: Annotated[str | None, Header(alias="Range", max_length=200)] = None,
    only_if: Annotated[str | None, Header(alias="If-Range", max_length=200)] = None,
) -> Response:
    """The episode for Rerun (`rrd`) or Foxglove (`mcap`), made now. 409 for a quarantined one; 503: others' turn.

    Its ETag is its SHA-256. `Range` counts only with `If-Range`: an `mcap` is the same file each time, an `rrd` is not.
    """
    async with services.db.session() as session:
        episode = await service.exportable(session, episode_id)
    async with AsyncExitStack() as stack:
        made = service.made(services, episode, kind)
        found = await unless_gone(request.is_disconnected, stack.enter_async_context(made))
        etag = f'"{found.sha256}"'
        # Without If-Range the rest of this file would be put behind the beginning of one that was made before.
        span = ranges.asked(wanted if only_if else None, only_if, etag, found.bytes)
        status, part = ranges.head(span, etag, found.bytes)
        headers = part | {
            "Content-Disposition": f'attachment; filename="{episode.robot_id}-{episode.id}.{kind}"',
            # Made anew each time, by the release that is installed then.
            "Cache-Control": "no-store",
        }
        body = _pieces(found.path, span.start if span else 0, span.length if span else found.bytes)
        return _Sent(stack.pop_all(), body, status, headers, _TYPES[kind])


class _Sent(StreamingResponse):
    """Closes `held` in any case, also when the client goes before the first byte."""

    def __init__(
        self, held: AsyncExitStack, body: AsyncIterator[bytes], status: int, headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(body, status, headers, media_type)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _pieces(path: Path, start: int, length: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while length > 0 and (piece := await in_thread(file.read, min(_PIECE_BYTES, length))):
            length -= len(piece)
            yield piece


async def unless_gone[T](is_gone: Callable[[], Awaitable[bool]], work: Awaitable[T]) -> T:
    """The work's result; it is cancelled when whoever asked has gone."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
            if await is_gone():
                raise ClientDisconnect
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
