"""Work on episodes that waits, is under way or was given up."""

from typing import Annotated

from fastapi import APIRouter, Query

from lefleet_server.auth import CurrentUser, Operator, ServicesDep
from lefleet_server.fields import INT64_MAX
from lefleet_server.jobs import service
from lefleet_server.jobs.schemas import JobOut, JobPage, Retried, Retry, State

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("")
async def list_jobs(
    user: CurrentUser,
    services: ServicesDep,
    state: Annotated[State | None, Query(description="Left out: all that are not done.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[int | None, Query(ge=0, le=INT64_MAX)] = None,
) -> JobPage:
    """Jobs that are not done, oldest first, with why the last attempt failed."""
    async with services.db.session() as session:
        page = await service.list_jobs(session, state, limit, cursor)
    return JobPage(items=[JobOut.model_validate(job) for job in page.items], next_cursor=page.next_cursor)


@router.post("/retry")
async def retry_jobs(body: Retry, user: Operator, services: ServicesDep) -> Retried:
    """Gives dead jobs all their attempts again; the others stay as they are."""
    async with services.db.transaction() as session:
        return Retried(retried=await service.retry(session, f"user:{user.username}", body.ids))
