"""Success rates beside one another."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from lefleet_server.auth import CurrentUser, ServicesDep
from lefleet_server.comparison import service
from lefleet_server.comparison.schemas import ComparisonOut
from lefleet_server.episodes.routes import Which
from lefleet_server.fields import Line

router = APIRouter()


@router.get("/comparison", tags=["people"])
async def compare(
    user: CurrentUser,
    services: ServicesDep,
    which: Annotated[Which, Depends()],
    by: Annotated[service.By, Query(description="A policy is a Hub repo, a release one commit of it.")] = "policy",
    baseline: Annotated[Line | None, Query(description="A group's key; else the one with most episodes.")] = None,
) -> ComparisonOut:
    """How often policies or releases succeed, over the episodes of a filter, and what can be said about it."""
    async with services.db.reading() as session:
        return ComparisonOut.of(await service.comparison(session, which.filter(), by, baseline))
