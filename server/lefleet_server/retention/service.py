"""Keeping the rules, saying what they would delete, and deleting it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime

import structlog
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.config import Settings
from lefleet_server.db import Database, Json, utc_now
from lefleet_server.deletion.models import LegalHold
from lefleet_server.deletion.service import delete_episode
from lefleet_server.episodes.models import Episode
from lefleet_server.problems import Conflict, Gone, NotFound
from lefleet_server.retention.forecast import forecast
from lefleet_server.retention.models import RetentionRule
from lefleet_server.retention.report import Report
from lefleet_server.retention.rules import Candidate, Group, Plan, Rule, covers, verdicts

log = structlog.get_logger()

_PAGE = 1000


async def list_rules(session: AsyncSession) -> Sequence[RetentionRule]:
    return (await session.scalars(select(RetentionRule).order_by(RetentionRule.name))).all()


async def put_rule(session: AsyncSession, rule: Rule, enabled: bool, actor: str) -> RetentionRule:
    """Adds the rule, or changes the one of this name; audited with old and new."""
    found = await session.get(RetentionRule, rule.name, with_for_update=True)
    old = _values(found) if found else None
    row = found or RetentionRule(name=rule.name)
    row.older_than_days, row.quota_bytes, row.labelled = rule.older_than_days, rule.quota_bytes, rule.labelled
    row.outcomes, row.robots, row.enabled = sorted(rule.outcomes), sorted(rule.robots), enabled
    if old != _values(row):
        row.changed_by, row.changed_at = actor, utc_now()
        session.add(row)
        detail = {"old": old, "new": _values(row)}
        audit(session, actor, "retention.rule-changed", f"retention-rule:{rule.name}", detail)
        await session.flush()
    return row


async def add_rule(session: AsyncSession, rule: Rule, actor: str) -> RetentionRule:
    """A new one, not enabled. Conflict: the name is taken."""
    if await session.get(RetentionRule, rule.name) is not None:
        raise Conflict(f"there is a rule {rule.name!r} already; edit that one, or choose another name")
    return await put_rule(session, rule, False, actor)


async def change_rule(session: AsyncSession, rule: Rule, enabled: bool, seen: datetime, actor: str) -> RetentionRule:
    """What somebody decided looking at the rule as of `seen` (its `changed_at`). Conflict: it is another one now."""
    row = await session.get(RetentionRule, rule.name, with_for_update=True)
    if row is None:
        raise NotFound(f"no retention rule {rule.name!r}; somebody removed it")
    if row.changed_at != seen:
        by = row.changed_by.removeprefix("user:")
        raise Conflict(f"{by} changed the rule {rule.name!r} meanwhile, and nothing was done; look at it again")
    return await put_rule(session, rule, enabled, actor)


async def remove_rule(session: AsyncSession, name: str, actor: str) -> None:
    row = await session.get(RetentionRule, name, with_for_update=True)
    if row is None:
        raise NotFound(f"no retention rule {name!r}")
    audit(session, actor, "retention.rule-removed", f"retention-rule:{name}", {"old": _values(row)})
    await session.execute(delete(RetentionRule).where(RetentionRule.name == name))


async def plan(db: Database, names: Sequence[str] = (), now: datetime | None = None) -> Report:
    """What the enabled rules, or those named, would delete now. NotFound: there is no rule of a name."""
    rules = await _rules(db, names)
    async with db.session() as session:
        # One state of the database for all its questions.
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        return await forecast(session, rules, now or utc_now())


async def apply(
    db: Database,
    settings: Settings,
    actor: str,
    names: Sequence[str] = (),
    told: Callable[[Report], Awaitable[None]] | None = None,
    now: datetime | None = None,
) -> Report:
    """Deletes what the enabled rules, or those named, say: each episode in a transaction of its own.

    `told` is awaited after each episode that was decided on.
    """
    rules = await _rules(db, names)
    report = Report(applied=True)
    async for it, rule in _look(db, rules, now or utc_now()):
        if it.held:
            report.keep(it, rule)
        elif await _delete(db, settings, it, rule, actor):
            report.add(it, rule)
        else:
            report.changed += 1
        if told is not None:
            await told(report)
    return report


async def _delete(db: Database, settings: Settings, it: Candidate, rule: Rule, actor: str) -> bool:
    """False when somebody held, labelled or deleted it since it was judged."""
    reason = f"retention rule {rule.name}: {rule.words}"

    def still(episode: Episode) -> bool:
        labelled = episode.label_outcome is not None
        return covers(rule, Group(episode.robot_id, episode.result, labelled, episode.bytes))

    try:
        async with db.transaction() as session:
            grace_s = settings.deleted_file_grace_s
            return await delete_episode(session, it.id, actor, reason, grace_s, still) is not None
    except (Conflict, Gone) as problem:
        log.info("episode left alone by retention", episode=it.id, rule=rule.name, reason=problem.detail)
        return False


async def _look(db: Database, rules: Sequence[Rule], now: datetime) -> AsyncIterator[tuple[Candidate, Rule]]:
    if not rules:
        return
    plan = Plan.of(rules, await _groups(db, rules), now)
    async for page in _pages(db, plan.horizon()):
        for verdict in verdicts(plan, page):
            yield verdict


async def _groups(db: Database, rules: Sequence[Rule]) -> list[Group]:
    if all(rule.quota_bytes is None for rule in rules):
        return []
    labelled = Episode.label_outcome.is_not(None)
    columns = Episode.robot_id, Episode.result, labelled
    async with db.session() as session:
        found = await session.execute(select(*columns, func.sum(Episode.bytes)).group_by(*columns))
        return [Group(robot, result, bool(labelled), int(size)) for robot, result, labelled, size in found]


async def _pages(db: Database, until: datetime | None) -> AsyncIterator[list[Candidate]]:
    """Oldest first, each page read by itself: a run over millions holds no transaction open."""
    held = await _held(db)
    order = Episode.received_at, Episode.id
    labelled = Episode.label_outcome.is_not(None)
    columns = Episode.id, Episode.robot_id, Episode.result, labelled, Episode.bytes, Episode.received_at
    query = select(*columns).order_by(*order).limit(_PAGE)
    if until is not None:
        query = query.where(Episode.received_at < until)
    after: Candidate | None = None
    while True:
        following = query.where(tuple_(*order) > (after.received_at, after.id)) if after else query
        async with db.session() as session:
            found = await session.execute(following)
            page = [Candidate(*row, held=row.id in held or row.robot_id in held) for row in found]
        if not page:
            return
        yield page
        after = page[-1]


async def _held(db: Database) -> frozenset[str]:
    """Episodes and robots under a hold. One that is placed later is seen when its episode would be deleted."""
    async with db.session() as session:
        found = await session.scalars(select(func.coalesce(LegalHold.episode_id, LegalHold.robot_id)))
        return frozenset(found)


async def _rules(db: Database, names: Sequence[str]) -> list[Rule]:
    async with db.session() as session:
        rows = {row.name: row for row in await list_rules(session)}
    for name in names:
        if name not in rows:
            raise NotFound(f"no retention rule {name!r}; there are: {', '.join(rows) or 'none'}")
    return [rule_of(row) for name, row in rows.items() if (name in names if names else row.enabled)]


def rule_of(row: RetentionRule) -> Rule:
    return Rule(
        row.name, row.older_than_days, row.quota_bytes, frozenset(row.outcomes), frozenset(row.robots), row.labelled
    )


def _values(row: RetentionRule) -> Json:
    names = ("older_than_days", "quota_bytes", "outcomes", "robots", "labelled", "enabled")
    return {name: getattr(row, name) for name in names}
