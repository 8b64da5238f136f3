"""Where the work at hand comes from: set around each request, read by the audit log."""

import uuid
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.types import Scope


@dataclass(slots=True)
class Origin:
    """Of one request, or of one live connection of a page. Empty for the command line."""

    address: str | None = None
    request_id: str | None = None
    via: str | None = None
    """Filled in by whoever finds out that an API token speaks."""


_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


def origin() -> Origin:
    return _origin.get() or Origin()


def begin(scope: Scope) -> Origin:
    """A new origin for what this task and the tasks it starts do. The id is ours: a client's could be forged."""
    client = scope.get("client")
    made = Origin(client[0] if client else None, uuid.uuid4().hex)
    _origin.set(made)
    return made
