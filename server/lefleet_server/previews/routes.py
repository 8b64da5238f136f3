"""Previews of an episode, for people's browsers."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response

from lefleet_server import downloads
from lefleet_server.auth import CurrentUser, ServicesDep
from lefleet_server.downloads import Asked, File
from lefleet_server.episodes.service import get_episode
from lefleet_server.fields import Line
from lefleet_server.previews import service
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.previews.schemas import PreviewList, PreviewOut
from lefleet_server.problems import NotFound
from lefleet_server.services import Services

router = APIRouter(prefix="/episodes/{episode_id}/previews", tags=["people"])

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
    sendfile: Annotated[str | None, Header(alias="X-Sendfile-Type", include_in_schema=False)] = None,
) -> Response:
    """H.264 in MP4, its times those of the ticks. Takes Range."""
    preview = await _find(services, episode_id, camera, "video")
    return await _answer(services, preview, v, if_none_match, Asked(range, if_range, sendfile))


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
    return await _answer(services, preview, v, if_none_match, Asked())


async def _find(services: Services, episode_id: str, camera: str, kind: str) -> EpisodePreview:
    async with services.db.session() as session:
        await get_episode(session, episode_id)
        return await service.get(session, episode_id, camera, kind)


async def _answer(
    services: Services, preview: EpisodePreview, version: str | None, known: str | None, asked: Asked
) -> Response:
    sha256 = preview.sha256 or ""
    kept = "max-age=31536000, immutable" if version == sha256 else "no-cache"
    headers = {"Cache-Control": f"private, {kept}"}
    file = File(sha256, preview.bytes, _TYPES[preview.kind], headers)
    if known is not None and (known.strip() == "*" or file.etag in known):
        return Response(status_code=304, headers=headers | {"ETag": file.etag})
    if await services.blobs.size(sha256) != preview.bytes:
        raise NotFound(f"the {preview.kind} of {preview.camera!r} is not in the store; `fsck --repair` makes it again")
    return await downloads.answer(services, file, asked)
