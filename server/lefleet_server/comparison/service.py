"""Success rates of policies or of their releases over a filter's episodes, each beside a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.comparison.statistics import Difference, Interval, Tally, compare, wilson, z_of
from lefleet_server.episodes.models import Episode
from lefleet_server.episodes.service import EpisodeFilter, conditions
from lefleet_server.problems import NotFound

MAX_EPISODES = 200_000
"""The newest so many of the filter are counted: more would take seconds, and say no more."""

type By = Literal["policy", "release"]
"""A policy is a Hub repo; a release is one commit of it."""


@dataclass(frozen=True, slots=True)
class Group:
    """The episodes of one policy or release."""

    policy: str
    commit: str
    """Empty when policies are compared."""
    tally: Tally
    unknown: int
    """Neither success nor failure: in no rate."""
    interval: Interval
    difference: Difference | None
    """None for the baseline itself."""

    @property
    def key(self) -> str:
        return key_of(self.policy, self.commit)


@dataclass(frozen=True, slots=True)
class Comparison:
    groups: Sequence[Group]
    """By name; the baseline is the one without a difference."""
    episodes: int
    cut: bool
    """Whether only the newest MAX_EPISODES were counted; older ones may match too."""


@dataclass(frozen=True, slots=True)
class _Counts:
    policy: str
    commit: str
    successes: int
    failures: int
    unknown: int


def key_of(policy: str, commit: str) -> str:
    return f"{policy}@{commit}" if commit else policy


async def comparison(session: AsyncSession, which: EpisodeFilter, by: By, baseline: str | None = None) -> Comparison:
    """Compares what the filter's episodes were made with. `baseline` is a group's key; without one it is the group with
    most judged episodes. Raises NotFound when no episode of the filter is of that group."""
    found = await _counts(session, which, by)
    episodes = sum(each.successes + each.failures + each.unknown for each in found)
    if not found and baseline is None:
        return Comparison((), 0, cut=False)
    base = _baseline(found, baseline)
    return Comparison([_group(each, base, len(found) - 1) for each in found], episodes, episodes >= MAX_EPISODES)


async def _counts(session: AsyncSession, which: EpisodeFilter, by: By) -> list[_Counts]:
    newest = (
        select(Episode.policy_repo, Episode.policy_commit if by == "release" else literal("").label("policy_commit"))
        .add_columns(Episode.result)
        .where(*conditions(which))
        .order_by(Episode.started_at.desc(), Episode.id.desc())
        .limit(MAX_EPISODES)
        .subquery()
    )
    outcomes = [func.count().filter(newest.c.result == name) for name in ("success", "failure", "unknown")]
    groups = (newest.c.policy_repo, newest.c.policy_commit)
    rows = await session.execute(select(*groups, *outcomes).group_by(*groups).order_by(*groups))
    return [_Counts(*row) for row in rows]


def _baseline(found: Sequence[_Counts], wanted: str | None) -> _Counts:
    if wanted is None:
        return max(found, key=lambda each: each.successes + each.failures)
    for each in found:
        if key_of(each.policy, each.commit) == wanted:
            return each
    raise NotFound(f"baseline: no episode of these filters is of {wanted!r}; widen the filters or choose another")


def _group(counts: _Counts, base: _Counts, comparisons: int) -> Group:
    tally = _tally(counts)
    difference = None if counts is base else compare(tally, _tally(base), comparisons)
    return Group(counts.policy, counts.commit, tally, counts.unknown, wilson(tally, z_of()), difference)


def _tally(counts: _Counts) -> Tally:
    return Tally(counts.successes, counts.successes + counts.failures)
