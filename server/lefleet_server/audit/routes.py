"""The audit log, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel

from lefleet_server.audit import service
from lefleet_server.audit.schemas import AuditList, AuditOut
from lefleet_server.auth import Admin, ServicesDep
from lefleet_server.fields import INT64_MAX, Line

router = APIRouter(tags=["audit"])


class Which(BaseModel):
    """Filters of the log; one that is left out does not restrict."""

    actor: Line | None = None
    action: Line | None = None
    subject: Line | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None

    def filter(self) -> service.AuditFilter:
        return service.AuditFilter(**dict(self))


@router.get("/audit")
async def list_audit(
    user: Admin,
    services: ServicesDep,
    which: Annotated[Which, Depends()],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[int | None, Query(ge=0, le=INT64_MAX)] = None,
) -> AuditList:
    """Who changed what, newest first. `action=user` also finds `user.added` and the like."""
    async with services.db.session() as session:
        page = await service.list_entries(session, which.filter(), limit, cursor)
        return AuditList(items=[AuditOut.model_validate(e) for e in page.items], next_cursor=page.next_cursor)
