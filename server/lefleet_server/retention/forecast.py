"""What the rules would delete, added up by the database: a few rows come here, whatever the number of episodes.

Rules judge the oldest first (`rules.Plan`), and what a quota has left only shrinks, so a quota that is kept stays kept.
In their order the episodes are thus stretches, in each of which the same rules are at work and a verdict depends on the
episode alone. A stretch ends with the episode that brings a quota down to its limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.deletion.models import LegalHold
from lefleet_server.episodes.models import Episode
from lefleet_server.retention.report import EXAMPLES, Count, Report
from lefleet_server.retention.rules import Plan, Rule

type Place = tuple[datetime, str]
_ORDER = Episode.received_at, Episode.id


async def forecast(session: AsyncSession, rules: Sequence[Rule], now: datetime) -> Report:
    """The report of a run that begins `now`. The session must see one state of the database throughout."""
    report, after = Report(applied=False), None
    excess = await _excess(session, rules)
    while at_work := [rule for rule in rules if excess.get(rule.name, 1) > 0]:
        stretch = _Stretch(at_work, now, after)
        found = await stretch.sums(session)
        if end := await stretch.end(session, found, excess):
            stretch = _Stretch(at_work, now, after, end)
            found = await stretch.sums(session)
        await _add(session, report, stretch, found)
        if end is None:
            break
        for name in excess:
            excess[name] -= found.gone.get(name, 0)
        after = end
    report.rules = {rule.name: report.rules[rule.name] for rule in rules if rule.name in report.rules}
    return report


@dataclass(frozen=True, slots=True)
class _Sums:
    going: dict[str, Count]
    held: Count
    gone: dict[str, int]
    """Bytes that leave the scope of each quota that is at work."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The episodes behind `after` as far as `until`, that one included, judged by these rules alone."""

    rules: Sequence[Rule]
    now: datetime
    after: Place | None
    until: Place | None = None

    async def sums(self, session: AsyncSession) -> _Sums:
        scopes = [_covers(rule).label(f"covers_{n}") for n, rule in enumerate(self._quotas)]
        each = (
            select(self._verdict.label("verdict"), _HELD.label("held"), Episode.bytes, *scopes)
            .where(*self._range())
            .subquery()
        )
        gone = [func.coalesce(func.sum(each.c.bytes).filter(each.c[scope.name]), 0) for scope in scopes]
        query = (
            select(each.c.verdict, each.c.held, func.count(), func.sum(each.c.bytes), *gone)
            .where(each.c.verdict.is_not(None))
            .group_by(each.c.verdict, each.c.held)
        )
        found = _Sums({}, Count(), {rule.name: 0 for rule in self._quotas})
        for verdict, held, episodes, size, *parts in await session.execute(query):
            if held:
                found.held.add_all(episodes, int(size))
                continue
            found.going[self.rules[verdict].name] = Count(episodes, int(size))
            for rule, part in zip(self._quotas, parts, strict=True):
                found.gone[rule.name] += int(part)
        return found

    async def end(self, session: AsyncSession, found: _Sums, excess: dict[str, int]) -> Place | None:
        """Where the first quota is kept; None when all of them are still passed at the end."""
        kept = [rule for rule in self._quotas if found.gone[rule.name] >= excess[rule.name]]
        if not kept:
            return None
        so_far = [
            func.sum(case((_covers(rule), Episode.bytes), else_=0))
            .over(order_by=_ORDER, rows=(None, 0))
            .label(f"gone_{n}")
            for n, rule in enumerate(kept)
        ]
        each = select(*_ORDER, *so_far).where(*self._range(), self._verdict.is_not(None), ~_HELD).subquery()
        reached = or_(*(each.c[sum_.name] >= excess[rule.name] for sum_, rule in zip(so_far, kept, strict=True)))
        first = select(each.c.received_at, each.c.id).where(reached).order_by(each.c.received_at, each.c.id).limit(1)
        received_at, episode_id = (await session.execute(first)).one()
        return received_at, episode_id

    async def oldest(self, session: AsyncSession, most: int, *, held: bool) -> list[tuple[str, str]]:
        which = _HELD if held else ~_HELD
        query = (
            select(Episode.id, self._verdict)
            .where(*self._range(), self._verdict.is_not(None), which)
            .order_by(*_ORDER)
            .limit(most)
        )
        return [(episode_id, self.rules[verdict].name) for episode_id, verdict in await session.execute(query)]

    @property
    def _quotas(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.quota_bytes is not None]

    @property
    def _verdict(self) -> ColumnElement[int]:
        """Number of the first rule by which an episode goes; NULL: it stays."""
        return case(*((_goes(rule, self.now), n) for n, rule in enumerate(self.rules)), else_=None)

    def _range(self) -> list[ColumnElement[bool]]:
        horizon = Plan(self.rules, self.now).horizon()
        found: list[ColumnElement[bool]] = [] if horizon is None else [Episode.received_at < horizon]
        found += [tuple_(*_ORDER) > tuple_(*self.after)] if self.after else []
        return found + ([tuple_(*_ORDER) <= tuple_(*self.until)] if self.until else [])


async def _excess(session: AsyncSession, rules: Sequence[Rule]) -> dict[str, int]:
    """By how many bytes each quota is passed; none or less: it is kept."""
    quotas = {rule.name: rule for rule in rules if rule.quota_bytes is not None}
    if not quotas:
        return {}
    sizes = [func.coalesce(func.sum(Episode.bytes).filter(_covers(rule)), 0) for rule in quotas.values()]
    found = (await session.execute(select(*sizes))).one()
    return {name: int(size) - (quotas[name].quota_bytes or 0) for name, size in zip(quotas, found, strict=True)}


async def _add(session: AsyncSession, report: Report, stretch: _Stretch, found: _Sums) -> None:
    for name, count in found.going.items():
        report.rules.setdefault(name, Count()).add_all(count.episodes, count.bytes)
        report.total.add_all(count.episodes, count.bytes)
    report.held.add_all(found.held.episodes, found.held.bytes)
    if found.going and (more := EXAMPLES - len(report.examples)):
        report.examples += await stretch.oldest(session, more, held=False)
    if found.held.episodes and (more := EXAMPLES - len(report.held_examples)):
        report.held_examples += await stretch.oldest(session, more, held=True)


def _covers(rule: Rule) -> ColumnElement[bool]:
    """`rules.covers` for the database."""
    found: list[Any] = [Episode.result.in_(sorted(rule.outcomes))] if rule.outcomes else []
    found += [Episode.robot_id.in_(sorted(rule.robots))] if rule.robots else []
    labelled = Episode.label_outcome.is_not(None)
    found += {True: [labelled], False: [~labelled], None: []}[rule.labelled]
    return and_(true(), *found)


def _goes(rule: Rule, now: datetime) -> ColumnElement[bool]:
    """Its quota, if it has one, is passed as long as the rule is at work."""
    if rule.older_than_days is None:
        return _covers(rule)
    return and_(_covers(rule), Episode.received_at < now - timedelta(days=rule.older_than_days))


_HELD: ColumnElement[bool] = or_(
    Episode.id.in_(select(LegalHold.episode_id).where(LegalHold.episode_id.is_not(None))),
    Episode.robot_id.in_(select(LegalHold.robot_id).where(LegalHold.robot_id.is_not(None))),
)
