"""How a stored file reaches the one who asked: read by this process, by the proxy before it, or from the object store.

Whoever sends the bytes, this process alone has said before that this caller may have them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response, StreamingResponse

from lefleet_server import ranges
from lefleet_server.services import Services

PROXY_TAKES = "X-Accel-Redirect"
"""What a proxy that can send files says in `X-Sendfile-Type`, and the header of the answer that names the file."""
RANGE = "X-LeFleet-Range"
"""Beside it, what of the file to send, for a proxy that cannot compare If-Range with our ETag; empty: all of it."""
INTERNAL = "/internal/blobs/"


@dataclass(frozen=True, slots=True)
class File:
    """What is in the store; `headers` go with it, whoever sends it. `presign`: worth a way past this server."""

    sha256: str
    bytes: int
    media_type: str
    headers: Mapping[str, str]
    presign: bool = False

    @property
    def etag(self) -> str:
        return f'"{self.sha256}"'


@dataclass(frozen=True, slots=True)
class Asked:
    """The headers Range, If-Range and X-Sendfile-Type of a request."""

    range: str | None = None
    if_range: str | None = None
    sendfile: str | None = None


async def answer(services: Services, file: File, asked: Asked) -> Response:
    """The file, the part that is asked for, or where it is. Raises RangeWrong.

    Authorisation, and whether the file is there, are the caller's to settle before.
    """
    by = services.settings.downloads_by
    if by == "store" and file.presign:
        return await _elsewhere(services, file)
    span = ranges.asked(asked.range, asked.if_range, file.etag, file.bytes)
    headers = {**file.headers, "ETag": file.etag}
    # Asked for by the proxy itself: whoever comes without one is not left with an empty answer.
    if by == "proxy" and asked.sendfile == PROXY_TAKES:
        name = await services.blobs.readable_name(file.sha256)
        if name is not None:
            headers |= {PROXY_TAKES: INTERNAL + name, RANGE: span.range if span else ""}
            return Response(headers=headers, media_type=file.media_type)
    status, part = ranges.head(span, file.etag, file.bytes)
    body = services.blobs.stream(file.sha256, *((span.start, span.length) if span else ()))
    return StreamingResponse(body, status, headers | part | {"Accept-Ranges": "bytes"}, file.media_type)


async def _elsewhere(services: Services, file: File) -> Response:
    """The ETag is the file's, not the store's: by it the caller knows what it will get."""
    url = await services.blobs.presigned(file.sha256, services.settings.download_url_ttl_s)
    # Kept by nobody: the address is as good as the file.
    return Response(status_code=307, headers={"Location": url, "ETag": file.etag, "Cache-Control": "no-store"})
