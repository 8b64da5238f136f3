"""The rules by which episodes are deleted, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from lefleet_server.auth import Admin, ServicesDep
from lefleet_server.db import utc_now
from lefleet_server.fields import Word
from lefleet_server.retention import nightly, service
from lefleet_server.retention.schemas import NightsOut, ReportOut, RuleIn, RuleList, RuleOut, RunOut

router = APIRouter(prefix="/retention", tags=["retention"])

Name = Annotated[Word, Path()]


@router.get("/rules")
async def list_rules(user: Admin, services: ServicesDep) -> RuleList:
    async with services.db.session() as session:
        return RuleList(items=[RuleOut.model_validate(row) for row in await service.list_rules(session)])


@router.put("/rules/{name}")
async def put_rule(name: Name, body: RuleIn, user: Admin, services: ServicesDep) -> RuleOut:
    """Adds the rule or changes the one of this name. It deletes nothing now: see the plan first."""
    async with services.db.transaction() as session:
        row = await service.put_rule(session, body.rule(name), body.enabled, f"user:{user.username}")
        return RuleOut.model_validate(row)


@router.delete("/rules/{name}", status_code=204)
async def remove_rule(name: Name, user: Admin, services: ServicesDep) -> None:
    async with services.db.transaction() as session:
        await service.remove_rule(session, name, f"user:{user.username}")


@router.get("/nights")
async def get_nights(user: Admin, services: ServicesDep) -> NightsOut:
    """When the rules delete by themselves, and what the last such run did."""
    async with services.db.session() as session:
        run = await nightly.last(session)
        rules = await service.list_rules(session)
    hour = services.settings.retention_hour_utc
    return NightsOut(
        next_at=None if hour is None else nightly.next_at(hour, utc_now(), run.day if run else None),
        enabled=sum(rule.enabled for rule in rules),
        last=RunOut.model_validate(run) if run else None,
    )


@router.get("/plan")
async def get_plan(
    user: Admin,
    services: ServicesDep,
    rule: Annotated[list[Word], Query(max_length=100, description="Only these, enabled or not.")] = [],  # noqa: B006
) -> ReportOut:
    """What the enabled rules would delete now. Deletes nothing."""
    return ReportOut.of(await service.plan(services.db, rule))
