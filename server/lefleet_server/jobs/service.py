"""Jobs as people see and change them; the queue's own steps are in `queue`."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.jobs import queue
from lefleet_server.jobs.models import Job


@dataclass(frozen=True, slots=True)
class JobPage:
    items: Sequence[Job]
    next_cursor: int | None
    """Give it back to get the next page; None on the last."""


async def list_jobs(session: AsyncSession, state: str | None, limit: int, cursor: int | None) -> JobPage:
    """Jobs that are not done, oldest first."""
    found = await queue.list_jobs(session, state, limit + 1, cursor or 0)
    items = found[:limit]
    return JobPage(items, items[-1].id if len(found) > limit else None)


async def retry(session: AsyncSession, actor: str, ids: Sequence[int] | None) -> int:
    """Gives dead jobs (all without `ids`) all their attempts again; returns how many."""
    retried = await queue.retry_dead(session, ids)
    audit(session, actor, "jobs.retried", "jobs", {"ids": "all" if ids is None else list(ids), "retried": retried})
    return retried
