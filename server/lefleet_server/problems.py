"""Errors that end a request, each with the problem document (RFC 9457) its caller gets.

Plain exceptions: services raise them, handlers.py turns them into responses.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

TYPE_BASE = "https://lefleet.org/problems/"
"""Problem types are names, not pages: `TYPE_BASE` + a word that programs compare."""


class Problem(Exception):  # noqa: N818 - the standard's own word, RFC 9457
    """A request that cannot be done as asked. `fields` are (name, message) pairs: what to correct."""

    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST
    kind: ClassVar[str] = "bad-request"

    def __init__(
        self,
        detail: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = tuple(fields)
        self.headers = dict(headers or {})
        self.type = TYPE_BASE + (kind or self.kind)


class Unauthenticated(Problem):
    status = HTTPStatus.UNAUTHORIZED
    kind = "unauthenticated"


class Forbidden(Problem):
    status = HTTPStatus.FORBIDDEN
    kind = "forbidden"


class NotFound(Problem):
    status = HTTPStatus.NOT_FOUND
    kind = "not-found"


class Conflict(Problem):
    status = HTTPStatus.CONFLICT
    kind = "conflict"


class PreconditionFailed(Problem):
    status = HTTPStatus.PRECONDITION_FAILED
    kind = "precondition-failed"


class TooLarge(Problem):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    kind = "too-large"


class WrongMediaType(Problem):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    kind = "wrong-media-type"


class Invalid(Problem):
    """Understood, but wrong: the document names the field."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "invalid"


class Locked(Problem):
    status = HTTPStatus.LOCKED
    kind = "locked"


class TooMany(Problem):
    status = HTTPStatus.TOO_MANY_REQUESTS
    kind = "too-many-requests"


class Unavailable(Problem):
    """Not the caller's fault and worth another try later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "unavailable"


class NoSpace(Problem):
    status = HTTPStatus.INSUFFICIENT_STORAGE
    kind = "insufficient-storage"


def document(status: HTTPStatus, type_: str, detail: str, fields: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The JSON body of application/problem+json."""
    return {
        "type": type_,
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "errors": [{"field": field, "message": message} for field, message in fields],
    }
