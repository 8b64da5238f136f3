"""The queue for people: what waits, what failed for good, and another try."""

from typing import Annotated

from fastapi import APIRouter, Query

from lefleet_server.auth import CurrentUser, Operator, ServicesDep
from lefleet_server.fields import INT64_MAX
from lefleet_server.jobs import queue, service
from lefleet_server.jobs.schemas import JobList, JobOut, QueueOut, Retried, Retry, State

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("")
async def list_jobs(
    user: CurrentUser,
    services: ServicesDep,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[int | None, Query(ge=0, le=INT64_MAX)] = None,
) -> JobList:
    """Jobs that are not done, oldest first, and how each queue is."""
    async with services.db.session() as session:
        page = await service.list_jobs(session, state, limit, cursor)
        depths = await queue.depths(session)
    return JobList(
        queues=[QueueOut.model_validate(each) for each in depths],
        items=[JobOut.model_validate(each) for each in page.items],
        next_cursor=page.next_cursor,
    )


@router.post("/retry")
async def retry_jobs(body: Retry, user: Operator, services: ServicesDep) -> Retried:
    """Gives dead jobs all their attempts again."""
    async with services.db.transaction() as session:
        return Retried(retried=await service.retry(session, f"user:{user.username}", body.ids))
