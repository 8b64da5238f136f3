"""What the pages read beyond the services: totals, choices, pages in both directions, neighbours. Read-only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server import explain
from lefleet_server.dashboard.filters import OUTCOMES, Cursor, Filters
from lefleet_server.db import utc_now
from lefleet_server.episodes.labels import Judged
from lefleet_server.episodes.models import Episode, task_beginning
from lefleet_server.episodes.service import (
    EVERYTHING,
    EpisodeFilter,
    Place,
    Stretch,
    conditions,
    hops,
    newest_of_release,
    newest_of_task,
    policies_query,
)
from lefleet_server.problems import Invalid
from lefleet_server.robots.models import Robot
from lefleet_server.sets.models import EpisodeSet
from lefleet_server.units import thousands

COUNTED = 1001
"""So many are counted before it is estimated: an exact count of millions takes seconds."""
OFFERED = 500
"""Of policies, releases and tasks each: what is not offered is reached by its address, the API or `lefleet`."""


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
class Release:
    """A commit of a policy with which there are episodes."""

    commit: str
    newest_at: datetime
    """When its newest episode began."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the filters offer."""

    robots: Sequence[str]
    policies: Sequence[str]
    sets: Sequence[str] = ()
    tasks: Sequence[str] = ()
    releases: Sequence[Release] = ()
    """Of the policy that is chosen."""


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


async def choices(session: AsyncSession, policy: str | None = None) -> Choices:
    """At most OFFERED tasks, and releases of the policy."""
    robots = (await session.scalars(select(Robot.id).order_by(Robot.id))).all()
    sets = (await session.scalars(select(EpisodeSet.name).order_by(EpisodeSet.name))).all()
    policies = (await session.scalars(policies_query())).all()
    tasks = [task for task in await session.scalars(tasks_query()) if task]
    return Choices(robots, policies, sets, tasks, await releases(session, policy) if policy else ())


async def releases(session: AsyncSession, policy: str) -> Sequence[Release]:
    """At most OFFERED, the one with the newest episode first."""
    found = [Release(*row) for row in await session.execute(releases_query(policy)) if row.commit]
    return sorted(found, key=lambda release: release.newest_at, reverse=True)


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


async def page_in_place(
    session: AsyncSession, filters: Filters, was: EpisodePage, known: Collection[str], last: Cursor, limit: int
) -> EpisodePage:
    """`was` again: those of the `known` episodes that match now, filled up with ones older than `last`.

    What arrived since is left out: it would push rows away from under the eyes of whoever judges them.
    """
    query = _ordered(_matching(filters).where(Episode.id.in_(known)), newest_first=True)
    rows = [EpisodeRow(*row) for row in await session.execute(query)]
    room = max(limit - len(rows), 0)
    older = _ordered(_matching(filters, Stretch(_place(last))), newest_first=True)
    found = [EpisodeRow(*row) for row in await session.execute(older.limit(room + 1))]
    return EpisodePage([*rows, *found[:room]], has_newer=was.has_newer, has_older=len(found) > room)


async def labels_of(session: AsyncSession, which: EpisodeFilter, most: int) -> dict[str, Judged]:
    """The labels of all that match, by id. Raises Invalid when there are more than `most`."""
    columns = Episode.id, Episode.label_outcome, Episode.label_note
    rows = await session.execute(select(*columns).where(*conditions(which)).limit(most + 1))
    found = {id_: Judged(outcome, note) for id_, outcome, note in rows}
    if len(found) > most:
        raise Invalid(f"more than {thousands(most)} episodes match; narrow the filters, or label them in parts")
    return found


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
    return Size(
        max(round(await explain.estimated_rows(session, _matching(filters, counted=False))), COUNTED), exact=False
    )


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


def _matching(filters: Filters, stretch: Stretch = EVERYTHING, *, counted: bool = True) -> Select[Any]:
    columns = [getattr(Episode, name) for name in EpisodeRow.__dataclass_fields__]
    return select(*columns).where(*conditions(filters.which(utc_now()), stretch, counted=counted))


def releases_query(policy: str) -> Select[Any]:
    """Commits, with the time of the newest episode."""
    commit = hops(Episode.policy_commit, Episode.policy_repo == policy, most=OFFERED).c.value
    return select(commit.label("commit"), newest_of_release("started_at", policy, commit))


def tasks_query() -> Select[Any]:
    """Of several with the same long beginning the newest."""
    tasks = hops(task_beginning(), most=OFFERED)
    return select(newest_of_task("task", tasks.c.value)).select_from(tasks)
