"""Previews of an episode, for people's browsers."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from lefleet_server.auth import CurrentUser, ServicesDep
from lefleet_server.episodes.service import get_episode
from lefleet_server.fields import Line
from lefleet_server.previews import ranges, service
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.previews.ranges import Bytes
from lefleet_server.previews.schemas import PreviewList, PreviewOut
from lefleet_server.problems import NotFound, RangeWrong
from lefleet_server.services import Services
from lefleet_server.storage import BlobStore

router = APIRouter(prefix="/episodes/{episode_id}/previews", tags=["people"])

_PIECE_BYTES = 1 << 20
_TYPES = {"video": "video/mp4", "first": "image/jpeg", "last": "image/jpeg"}

Version = Annotated[Line | None, Query(description="The digest in its address; with it the answer may be kept.")]
Range = Annotated[Line | None, Header()]
Known = Annotated[Line | None, Header()]


def _answers(media_type: str) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"content": content},
        206: {"description": "The bytes asked for", "content": content},
        304: {"description": "As it was"},
    }


@router.get("")
async def list_previews(episode_id: str, user: CurrentUser, services: ServicesDep) -> PreviewList:
    """What was made of the episode's cameras; empty until a worker did."""
    async with services.db.session() as session:
        await get_episode(session, episode_id)
        found = await service.of_episodes(session, [episode_id])
    return PreviewList(items=[PreviewOut.of(each) for each in found.get(episode_id, [])])


@router.get("/{camera}/video.mp4", response_class=Response, responses=_answers("video/mp4"))
async def get_video(
    episode_id: str,
    camera: str,
    user: CurrentUser,
    services: ServicesDep,
    v: Version = None,
    range: Range = None,  # noqa: A002 - the header's name
    if_none_match: Known = None,
    if_range: Known = None,
) -> Response:
    """H.264 in MP4, its times those of the ticks. Takes Range."""
    preview = await _find(services, episode_id, camera, "video")
    return await _answer(services.blobs, preview, v, if_none_match, _unless_changed(range, if_range, preview))


@router.get("/{camera}/{which}.jpg", response_class=Response, responses=_answers("image/jpeg"))
async def get_thumbnail(
    episode_id: str,
    camera: str,
    which: Literal["first", "last"],
    user: CurrentUser,
    services: ServicesDep,
    v: Version = None,
    if_none_match: Known = None,
) -> Response:
    """The camera's first or last picture, small."""
    preview = await _find(services, episode_id, camera, which)
    return await _answer(services.blobs, preview, v, if_none_match, None)


async def _find(services: Services, episode_id: str, camera: str, kind: str) -> EpisodePreview:
    async with services.db.session() as session:
        await get_episode(session, episode_id)
        return await service.get(session, episode_id, camera, kind)


def _unless_changed(asked: str | None, if_range: str | None, preview: EpisodePreview) -> str | None:
    return asked if if_range is None or if_range == f'"{preview.sha256}"' else None


async def _answer(
    blobs: BlobStore, preview: EpisodePreview, version: str | None, known: str | None, asked: str | None
) -> Response:
    sha256 = preview.sha256 or ""
    kept = "max-age=31536000, immutable" if version == sha256 else "no-cache"
    headers = {"ETag": f'"{sha256}"', "Cache-Control": f"private, {kept}", "Accept-Ranges": "bytes"}
    if known is not None and (known.strip() == "*" or f'"{sha256}"' in known):
        return Response(status_code=304, headers=headers)
    if await blobs.size(sha256) != preview.bytes:
        raise NotFound(f"the {preview.kind} of {preview.camera!r} is not in the store; `fsck --repair` makes it again")
    try:
        part = ranges.wanted(asked, preview.bytes)
    except ranges.UnsatisfiableError as error:
        raise RangeWrong(
            f"Range: {asked!r} begins behind the end; the file has {preview.bytes} bytes",
            fields=[("Range", "begins behind the end")],
            headers={"Content-Range": f"bytes */{preview.bytes}"},
        ) from error
    whole = part or Bytes(0, preview.bytes)
    headers["Content-Length"] = str(whole.stop - whole.start)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{preview.bytes}"
    body = _pieces(blobs, sha256, whole)
    return StreamingResponse(body, 206 if part else 200, headers, media_type=_TYPES[preview.kind])


async def _pieces(blobs: BlobStore, sha256: str, part: Bytes) -> AsyncIterator[bytes]:
    for at in range(part.start, part.stop, _PIECE_BYTES):
        yield await blobs.read(sha256, at, min(_PIECE_BYTES, part.stop - at))
