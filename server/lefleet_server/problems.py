"""Errors that end a request, and the problem document (RFC 9457) that every caller gets, whoever raised it."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Scope

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

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


class Gone(Problem):
    """It was here, and was deleted for good."""

    status = HTTPStatus.GONE
    kind = "episode-deleted"


class Conflict(Problem):
    status = HTTPStatus.CONFLICT
    kind = "conflict"


class PreconditionFailed(Problem):
    status = HTTPStatus.PRECONDITION_FAILED
    kind = "precondition-failed"


class TooLarge(Problem):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    kind = "too-large"


class RangeWrong(Problem):
    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    kind = "range-not-satisfiable"


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


class FieldError(BaseModel):
    field: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457. `type` is what a program compares, `detail` is for people, `errors` names what to correct."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError]


def document(status: HTTPStatus, type_: str, detail: str, fields: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The JSON body of application/problem+json."""
    return ProblemDocument(
        type=type_,
        title=status.phrase,
        status=int(status),
        detail=detail,
        errors=[FieldError(field=field, message=message) for field, message in fields],
    ).model_dump()


def response(problem: Problem) -> JSONResponse:
    """The answer that tells this problem."""
    return _answer(problem.status, problem.type, problem.detail, problem.fields, problem.headers)


def install(app: FastAPI) -> None:
    """Makes every error of the app's routes a problem document."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(PoolTimeoutError, _unavailable)
    app.add_exception_handler(OSError, _unavailable)
    app.add_exception_handler(ClientDisconnect, _vanished)
    app.add_exception_handler(Exception, _unexpected)


async def failed(scope: Scope, error: Exception) -> JSONResponse:
    """The answer to a request outside the app's routes that the database or the disk failed."""
    request = Request(scope)
    return await (_database if isinstance(error, DBAPIError) else _unavailable)(request, error)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    return response(cast(Problem, error))


async def _validation(request: Request, error: Exception) -> JSONResponse:
    found = cast(RequestValidationError, error).errors()
    fields = [(_field(each["loc"]), str(each["msg"])) for each in found]
    detail = "; ".join(f"{field}: {message}" for field, message in fields)
    return response(Invalid(detail, fields=fields))


async def _http(request: Request, error: Exception) -> JSONResponse:
    failed = cast(HTTPException, error)
    status = HTTPStatus(failed.status_code)
    fields = [("body", failed.detail)] if status == HTTPStatus.BAD_REQUEST else []
    type_ = TYPE_BASE + status.phrase.lower().replace(" ", "-")
    return _answer(status, type_, failed.detail, fields, failed.headers)


_DISK_FULL = "53100"
"""PostgreSQL's code `disk_full`."""


async def _database(request: Request, error: Exception) -> JSONResponse:
    failed = cast(DBAPIError, error)
    # Class 22 is "data exception", and what the driver cannot encode has no code: a value that PostgreSQL cannot hold.
    code = getattr(failed.orig, "sqlstate", None) or ""
    if code == _DISK_FULL:
        return response(
            NoSpace(
                "the database's disk is full; free some of it, then everything goes on by itself",
                headers={"Retry-After": "30"},
            )
        )
    cause = failed.orig.__cause__ if failed.orig else None
    if code.startswith("22") or (not code and isinstance(cause, ValueError)):
        return response(Invalid("a value cannot be stored: it is out of range or has characters that are not text"))
    return await _unavailable(request, error)


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    log.error("request failed", path=request.url.path, error=repr(error)[:500])
    return response(
        Unavailable("the database or the disk does not answer; try again shortly", headers={"Retry-After": "2"})
    )


async def _vanished(request: Request, error: Exception) -> JSONResponse:
    return response(Problem("the client vanished before its request was complete"))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("request failed", path=request.url.path, exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return _answer(status, TYPE_BASE + "internal", "the server failed at this; its log says why", (), {})


def _field(loc: Sequence[Any]) -> str:
    """`body.loop.hz`, `query.limit`; the class names that pydantic puts in for unions say nothing to a caller."""
    parts = [str(part) for part in loc if not str(part)[:1].isupper()]
    return ".".join(parts[1:] if parts[:1] == ["body"] and len(parts) > 1 else parts[-1:])


def _answer(
    status: HTTPStatus,
    type_: str,
    detail: str,
    fields: Sequence[tuple[str, str]],
    headers: Mapping[str, str] | None,
) -> JSONResponse:
    return JSONResponse(document(status, type_, detail, fields), int(status), dict(headers or {}), MEDIA_TYPE)
