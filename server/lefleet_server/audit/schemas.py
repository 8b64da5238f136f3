"""What goes over HTTP, and out of the command line, about the audit log."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class AuditOut(BaseModel):
    """Who did what to which thing."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    actor: str = Field(description="`user:NAME`, `robot:ID`, `console`, `server`, `oidc` or `retention`.")
    via: str | None = Field(description="`token:PREFIX` when an API token spoke for the person.")
    action: str
    subject: str
    address: str | None
    request_id: str | None
    detail: dict[str, Any]


class AuditList(BaseModel):
    items: list[AuditOut]
    next_cursor: int | None = Field(description="Give it back as `cursor` for the next page; null on the last.")
