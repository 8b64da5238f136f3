"""tus 1.0 (https://tus.io/protocols/resumable-upload): core, creation and termination.

A client that stops at `Upload-Offset == Upload-Length` is done as tus has it, so asking for the offset (HEAD) of a
complete upload finishes it, as the last PATCH would have; both answer 422 when the file is not a valid episode.
"""

import base64
import binascii
from contextlib import ExitStack, aclosing

import structlog
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect

from lefleet_server.auth import CurrentRobot, ServicesDep
from lefleet_server.episodes import ingest
from lefleet_server.episodes.incoming import Part
from lefleet_server.episodes.models import Upload
from lefleet_server.fields import EpisodeId, Sha256
from lefleet_server.problems import Conflict, Invalid, PreconditionFailed, TooLarge, WrongMediaType
from lefleet_server.straight import blocks_of

VERSION = "1.0.0"
CHUNK_TYPE = "application/offset+octet-stream"

log = structlog.get_logger()
router = APIRouter(prefix="/robot/uploads", tags=["uploads"])


class Metadata(BaseModel):
    """The keys of Upload-Metadata that count; others are for the client's own use."""

    model_config = ConfigDict(extra="ignore")

    sha256: Sha256
    episode_id: EpisodeId


async def _tus(request: Request) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        raise PreconditionFailed(
            f"send the header Tus-Resumable: {VERSION}",
            fields=[("Tus-Resumable", f"must be {VERSION}")],
            headers={"Tus-Version": VERSION},
        )


Tus = Depends(_tus)


@router.options("", status_code=204)
async def options(services: ServicesDep) -> Response:
    """What this server can do, as tus asks for it."""
    return _answer(
        204,
        {
            "Tus-Version": VERSION,
            "Tus-Extension": "creation,termination",
            "Tus-Max-Size": str(services.settings.max_upload_bytes),
        },
    )


@router.post("", status_code=201, dependencies=[Tus])
async def create(request: Request, robot: CurrentRobot, services: ServicesDep) -> Response:
    """Announces a file: Upload-Length, and in Upload-Metadata its sha256 and episode_id.

    409 of type `already-stored` when the server has these bytes: fetch the receipt. When an upload of these bytes is
    open it is given back, with its Upload-Offset.
    """
    length = _number(request, "Upload-Length", least=1)
    metadata = _metadata(request.headers.get("upload-metadata", ""))
    announcement = ingest.Announcement(metadata.sha256, metadata.episode_id, length)
    upload, offset = await ingest.announce(services, robot.id, announcement)
    return _answer(201, {"Location": f"{request.url.path}/{upload.id}", "Upload-Offset": str(offset)})


@router.head("/{upload_id}", dependencies=[Tus], response_class=Response)
async def offset(upload_id: str, robot: CurrentRobot, services: ServicesDep) -> Response:
    """How many bytes have arrived. 404: begin again."""
    upload = await ingest.find(services, robot.id, upload_id)
    size = await services.incoming.size(upload.id)
    if size is None or size == upload.length:
        async with services.incoming.locked(upload.id) as part:
            await ingest.finish(services, upload, part)
    return _answer(200, {"Upload-Offset": str(size), "Upload-Length": str(upload.length), "Cache-Control": "no-store"})


@router.patch(
    "/{upload_id}",
    status_code=204,
    dependencies=[Tus],
    openapi_extra={"requestBody": {"required": True, "content": {CHUNK_TYPE: {}}}},
)
async def append(upload_id: str, request: Request, robot: CurrentRobot, services: ServicesDep) -> Response:
    """Adds bytes at Upload-Offset. The one that completes the file answers when the episode is stored durably."""
    if request.headers.get("content-type") != CHUNK_TYPE:
        raise WrongMediaType(f"send the bytes as {CHUNK_TYPE}", fields=[("Content-Type", f"must be {CHUNK_TYPE}")])
    at = _number(request, "Upload-Offset")
    body_bytes = _body_bytes(request, services.settings.max_upload_bytes)
    with ExitStack() as receiving:
        receiving.enter_context(services.reception.room(services.incoming.memory_bytes(body_bytes)))
        upload = await ingest.find(services, robot.id, upload_id)
        async with services.incoming.locked(upload.id) as part:
            await _require_offset(part, at)
            await services.incoming.require_space(upload.length - at)
            size = await _receive(request, part, upload, services.settings.request_idle_s)
            receiving.close()
            if size == upload.length:
                await ingest.finish(services, upload, part)
    return _answer(204, {"Upload-Offset": str(size)})


@router.delete("/{upload_id}", status_code=204, dependencies=[Tus])
async def terminate(upload_id: str, robot: CurrentRobot, services: ServicesDep) -> Response:
    """Forgets the upload and its bytes."""
    upload = await ingest.find(services, robot.id, upload_id)
    async with services.incoming.locked(upload.id):
        await ingest.discard(services, upload, f"robot:{robot.id}")
    return _answer(204, {})


async def _receive(request: Request, part: Part, upload: Upload, idle_s: float) -> int:
    """Writes the body in pieces; returns the file's size. A client that vanishes keeps what arrived."""
    size = await part.size()
    blocks = blocks_of(request.scope, part.piece_bytes, idle_s)
    if blocks is None:
        return await _receive_messages(request, part, upload, size)
    try:
        async with aclosing(blocks):
            async for block in blocks:
                _require_announced(upload, size + len(block))
                await part.append(block)
                size += len(block)
    except ClientDisconnect:
        log.info("client vanished", upload=upload.id, robot=upload.robot_id, bytes=size)
    return size


async def _receive_messages(request: Request, part: Part, upload: Upload, size: int) -> int:
    waiting = bytearray()
    try:
        async for piece in request.stream():
            waiting += piece
            _require_announced(upload, size + len(waiting))
            if len(waiting) >= part.piece_bytes:
                size += await _flush(part, waiting)
    except ClientDisconnect:
        log.info("client vanished", upload=upload.id, robot=upload.robot_id, bytes=size + len(waiting))
    return size + await _flush(part, waiting)


def _require_announced(upload: Upload, size: int) -> None:
    if size > upload.length:
        raise TooLarge(
            f"more bytes than announced: Upload-Length is {upload.length}",
            fields=[("Upload-Length", "is less than what was sent")],
        )


async def _flush(part: Part, waiting: bytearray) -> int:
    data = bytes(waiting)
    waiting.clear()
    if data:
        await part.append(data)
    return len(data)


async def _require_offset(part: Part, at: int) -> None:
    size = await part.size()
    if size != at:
        raise Conflict(
            f"Upload-Offset: {at} given, {size} bytes are here; go on from there",
            fields=[("Upload-Offset", f"must be {size}")],
            headers={"Upload-Offset": str(size)},
            kind="wrong-offset",
        )


def _number(request: Request, name: str, least: int = 0) -> int:
    text = request.headers.get(name, "")
    # Not int(): it takes signs, spaces, underscores and digits of other scripts too.
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) >= least):
        raise Invalid(f"{name}: {text!r} is not a number of at least {least}", fields=[(name, "must be a number")])
    return int(text)


def _body_bytes(request: Request, otherwise: int) -> int:
    """As announced; `otherwise` for a body that comes in chunks."""
    return _number(request, "Content-Length") if "content-length" in request.headers else otherwise


def _metadata(header: str) -> Metadata:
    """Parses `key base64,key base64`."""
    try:
        pairs = dict(each.strip().split(" ", 1) for each in header.split(",") if " " in each.strip())
        values = {name: base64.b64decode(value, validate=True).decode() for name, value in pairs.items()}
        return Metadata.model_validate(values)
    except ValidationError as error:
        fields = [(str(each["loc"][0]), each["msg"]) for each in error.errors()]
        raise Invalid("Upload-Metadata: " + "; ".join(": ".join(f) for f in fields), fields=fields) from error
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Invalid(
            f"Upload-Metadata: {error}", fields=[("Upload-Metadata", "values must be base64 of text")]
        ) from error


def _answer(status: int, headers: dict[str, str]) -> Response:
    return Response(status_code=status, headers={"Tus-Resumable": VERSION} | headers)
