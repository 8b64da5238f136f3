"""What people see of the queue, and what they may do to it. The workers' own steps are in queue.py."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.jobs import queue
from lefleet_server.jobs.models import Job
from lefleet_server.keyset import Page, read_page


async def list_jobs(session: AsyncSession, state: str | None, limit: int, cursor: int | None = None) -> Page[Job]:
    """Jobs that are not done, oldest first; `state` is one of queued, running, dead."""
    query = select(Job) if state is None else select(Job).where(Job.state == state)
    return await read_page(session, query, Job.id, limit, cursor, desc=False)


async def retry(session: AsyncSession, actor: str, ids: Sequence[int] | None) -> int:
    """Gives dead jobs (all without `ids`) all their attempts again; returns how many. What is not dead stays."""
    revived = await queue.retry_dead(session, ids)
    if revived:
        which = "all that were dead" if ids is None else list(ids)
        audit(session, actor, "jobs.retried", "jobs", {"jobs": which, "retried": revived})
    return revived
