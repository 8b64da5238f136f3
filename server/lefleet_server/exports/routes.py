"""Episodes for Rerun and Foxglove."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

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
    responses={200: {"content": dict.fromkeys(_TYPES.values(), _BINARY)}},
)
async def get_export(
    episode_id: str, kind: Format, request: Request, user: CurrentUser, services: ServicesDep
) -> Response:
    """The episode for Rerun (`rrd`) or Foxglove (`mcap`), made now. 409 for a quarantined one; 503: others' turn."""
    async with services.db.session() as session:
        episode = await service.exportable(session, episode_id)
    async with AsyncExitStack() as stack:
        made = service.made(services, episode, kind)
        path = await unless_gone(request.is_disconnected, stack.enter_async_context(made))
        headers = {
            "Content-Length": str(path.stat().st_size),
            "Content-Disposition": f'attachment; filename="{episode.robot_id}-{episode.id}.{kind}"',
            # Made anew each time, by the release that is installed then.
            "Cache-Control": "no-store",
        }
        return _Sent(stack.pop_all(), path, headers, _TYPES[kind])


class _Sent(StreamingResponse):
    """Closes `held` in any case, also when the client goes before the first byte."""

    def __init__(self, held: AsyncExitStack, path: Path, headers: dict[str, str], media_type: str) -> None:
        super().__init__(_pieces(path), headers=headers, media_type=media_type)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await in_thread(file.read, _PIECE_BYTES):
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
