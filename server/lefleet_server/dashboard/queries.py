"""What the pages read beyond the services: totals, choices, pages in both directions, neighbours. Read-only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server import explain
from lefleet_server.audit.models import AuditEntry
from lefleet_server.dashboard.filters import OUTCOMES, Cursor, Filters
from lefleet_server.db import utc_now
from lefleet_server.episodes.models import Episode
from lefleet_server.episodes.service import EVERYTHING, Place, Stretch, conditions
from lefleet_server.robots.models import Robot
from lefleet_server.sets.models import EpisodeSet

COUNTED = 1001
"""So many are counted before it is estimated: an exact count of millions takes seconds."""


@dataclass(frozen=True, slots=True)
class Day:
    """Episodes that began since some instant."""

    episodes: int
    successes: int
    failures: int


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One line of the table of episodes."""

    id: str
    robot_id: str
    task: str
    policy_repo: str
    policy_commit: str
    result: str
    label_outcome: str | None
    interrupted: bool
    started_at: datetime
    duration_s: float
    frames: int
    frames_dropped: int
    hz_held: float
    cameras: list[str]

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.started_at, self.id)


@dataclass(frozen=True, slots=True)
class EpisodePage:
    rows: Sequence[EpisodeRow]
    has_newer: bool
    has_older: bool


@dataclass(frozen=True, slots=True)
class Size:
    episodes: int
    exact: bool
    """False: estimated from statistics."""


@dataclass(frozen=True, slots=True)
class Judgement:
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Choices:
    """What the filters offer."""

    robots: Sequence[str]
    policies: Sequence[str]
    sets: Sequence[str] = ()


async def day(session: AsyncSession, since: datetime) -> Day:
    successes, failures, unknown = (await session.execute(day_query(since))).one()
    return Day(successes + failures + unknown, successes, failures)


def day_query(since: datetime) -> Select[Any]:
    """One count for each of OUTCOMES."""

    def count(outcome: str) -> Any:
        # One range of one index for each outcome: a day of a large fleet is a million rows, and none is visited.
        found = select(func.count()).where(Episode.result == outcome, Episode.started_at >= since)
        return found.scalar_subquery()

    return select(*map(count, OUTCOMES))


async def choices(session: AsyncSession) -> Choices:
    robots = (await session.scalars(select(Robot.id).order_by(Robot.id))).all()
    sets = (await session.scalars(select(EpisodeSet.name).order_by(EpisodeSet.name))).all()
    return Choices(robots, (await session.scalars(policies_query())).all(), sets)


async def episode_page(session: AsyncSession, filters: Filters, limit: int) -> EpisodePage:
    """Up to `limit` episodes, newest first, before or after the filters' cursor."""
    backwards = filters.after is not None
    stretch = Stretch(_place(filters.before), _place(filters.after))
    query = _ordered(_matching(filters, stretch), newest_first=not backwards)
    found = [EpisodeRow(*row) for row in await session.execute(query.limit(limit + 1))]
    more = len(found) > limit
    rows = found[:limit]
    if backwards:
        return EpisodePage(rows[::-1], has_newer=more, has_older=True)
    return EpisodePage(rows, has_newer=filters.before is not None, has_older=more)


async def newest(session: AsyncSession, filters: Filters) -> str | None:
    """The id of the newest episode that matches, wherever the page is."""
    query = _ordered(_matching(filters).with_only_columns(Episode.id), newest_first=True)
    found: str | None = await session.scalar(query.limit(1))
    return found


async def size(session: AsyncSession, filters: Filters) -> Size:
    """How many episodes match: counted as far as is quick, then PostgreSQL's own estimate."""
    few = select(func.count()).select_from(_matching(filters).with_only_columns(Episode.id).limit(COUNTED).subquery())
    counted = await session.scalar(few) or 0
    if counted < COUNTED:
        return Size(counted, exact=True)
    return Size(max(round(await explain.estimated_rows(session, _matching(filters))), COUNTED), exact=False)


async def last_label(session: AsyncSession, episode_id: str) -> Judgement | None:
    """Who labelled the episode last, and when."""
    query = (
        select(AuditEntry.actor, AuditEntry.at)
        .where(AuditEntry.subject == f"episode:{episode_id}", AuditEntry.action == "episode.labelled")
        .order_by(AuditEntry.at.desc())
        .limit(1)
    )
    row = (await session.execute(query)).one_or_none()
    return Judgement(row.actor.removeprefix("user:"), row.at) if row else None


async def neighbours(session: AsyncSession, filters: Filters, episode: Episode) -> tuple[str | None, str | None]:
    """The ids of the next newer and the next older episode that match the filters."""
    here = episode.started_at, episode.id
    newer = _matching(filters, Stretch(newer_than=here)).with_only_columns(Episode.id)
    older = _matching(filters, Stretch(older_than=here)).with_only_columns(Episode.id)
    return (
        await session.scalar(_ordered(newer, newest_first=False).limit(1)),
        await session.scalar(_ordered(older, newest_first=True).limit(1)),
    )


async def next_unlabelled(session: AsyncSession, filters: Filters, after: Episode | None = None) -> str | None:
    """The id of the next older episode that matches and that nobody has judged, or else of the newest one."""
    open_ = _matching(replace(filters, labelled=False)).with_only_columns(Episode.id)
    found: str | None = None
    if after is not None:
        older = _matching(replace(filters, labelled=False), Stretch((after.started_at, after.id)))
        found = await session.scalar(_ordered(older.with_only_columns(Episode.id), newest_first=True).limit(1))
        open_ = open_.where(Episode.id != after.id)
    return found or await session.scalar(_ordered(open_, newest_first=True).limit(1))


def _place(cursor: Cursor | None) -> Place | None:
    return (cursor.started_at, cursor.id) if cursor else None


def _ordered(query: Select[Any], newest_first: bool) -> Select[Any]:
    columns: tuple[Any, ...] = (Episode.started_at, Episode.id)
    return query.order_by(*(column.desc() if newest_first else column.asc() for column in columns))


def _matching(filters: Filters, stretch: Stretch = EVERYTHING) -> Select[Any]:
    columns = [getattr(Episode, name) for name in EpisodeRow.__dataclass_fields__]
    return select(*columns).where(*conditions(filters.which(utc_now()), stretch))


def policies_query() -> Select[Any]:
    """Hops from one repo to the next along the index: DISTINCT would read every episode."""
    hops = select(func.min(Episode.policy_repo).label("repo")).cte("hops", recursive=True)
    following = select(func.min(Episode.policy_repo)).where(Episode.policy_repo > hops.c.repo).scalar_subquery()
    hops = hops.union_all(select(following).where(hops.c.repo.is_not(None)))
    return select(hops.c.repo).where(hops.c.repo.is_not(None))
