"""Writing the audit log and reading it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.models import AuditEntry
from lefleet_server.audit.origin import origin
from lefleet_server.keyset import Page, read_page

_EXPORT_ROWS = 1000


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; None does not restrict. `action` also finds what begins with it and a dot."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def audit(session: AsyncSession, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    """Adds one entry, committed with whatever it describes. `detail` must hold no secret."""
    of = origin()
    session.add(
        AuditEntry(
            actor=actor,
            action=action,
            subject=subject,
            detail=detail,
            via=of.via,
            address=of.address,
            request_id=of.request_id,
        )
    )


async def list_entries(
    session: AsyncSession, which: AuditFilter, limit: int, cursor: int | None = None
) -> Page[AuditEntry]:
    """Newest first."""
    return await read_page(session, _matching(which), AuditEntry.id, limit, cursor)


async def every_entry(session: AsyncSession, which: AuditFilter) -> AsyncIterator[AuditEntry]:
    """All that match, newest first, read in pages so that a long log fits in memory."""
    cursor: int | None = None
    while True:
        page = await list_entries(session, which, _EXPORT_ROWS, cursor)
        for entry in page.items:
            yield entry
        session.expunge_all()
        if (cursor := page.next_cursor) is None:
            return


def _matching(which: AuditFilter) -> Select[AuditEntry]:
    query = select(AuditEntry)
    if which.actor is not None:
        query = query.where(AuditEntry.actor == which.actor)
    if which.action is not None:
        below = AuditEntry.action.startswith(f"{which.action}.", autoescape=True)
        query = query.where((AuditEntry.action == which.action) | below)
    if which.subject is not None:
        query = query.where(AuditEntry.subject == which.subject)
    if which.since is not None:
        query = query.where(AuditEntry.at >= which.since)
    if which.until is not None:
        query = query.where(AuditEntry.at < which.until)
    return query
