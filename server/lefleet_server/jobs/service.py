"""What people see of the queue, and what they may do to it. The workers' own steps are in queue.py."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.jobs import queue
from lefleet_server.jobs.models import Job


@dataclass(frozen=True, slots=True)
class JobPage:
    items: Sequence[Job]
    next_cursor: int | None
    """Give it back to get the next page; None on the last."""


async def list_jobs(session: AsyncSession, state: str | None, limit: int, cursor: int | None = None) -> JobPage:
    """Jobs that are not done, oldest first; `state` is one of queued, running, dead."""
    query = select(Job).order_by(Job.id).limit(limit + 1)
    if state is not None:
        query = query.where(Job.state == state)
    if cursor is not None:
        query = query.where(Job.id > cursor)
    found = (await session.scalars(query)).all()
    items = found[:limit]
    return JobPage(items, items[-1].id if len(found) > limit else None)


async def retry(session: AsyncSession, actor: str, ids: Sequence[int] | None) -> int:
    """Gives dead jobs (all without `ids`) all their attempts again; returns how many. What is not dead stays."""
    revived = await queue.retry_dead(session, ids)
    if revived:
        which = "all that were dead" if ids is None else list(ids)
        audit(session, actor, "jobs.retried", "jobs", {"jobs": which, "retried": revived})
    return revived
