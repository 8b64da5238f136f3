"""Episodes: finding them, reading from their files, labelling them."""

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    Subquery,
    and_,
    exists,
    func,
    literal,
    not_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased, undefer

from lefleet_server.accounts.models import User
from lefleet_server.analysis import FlagName, Quality
from lefleet_server.analysis.models import EpisodeAnalysis, EpisodeFlag, PendingEpisode
from lefleet_server.deletion import tombstones
from lefleet_server.deletion.models import DeletedEpisode
from lefleet_server.episodes import labels, validation
from lefleet_server.episodes.models import TASK_BEGINNING_CHARS, Episode, task_beginning
from lefleet_server.problems import Invalid, NotFound
from lefleet_server.services import Services
from lefleet_server.sets.models import EpisodeSet, EpisodeSetMember
from lefleet_server.storage import BlobStore

IMAGE_LENGTH_BYTES = 4
"""Size of one entry of /observations/image_bytes/<camera>, little endian."""


@dataclass(frozen=True, slots=True)
class EpisodeFilter:
    """Which episodes; None does not restrict. `outcome` compares with `Episode.result`."""

    robot: str | None = None
    policy: str | None = None
    release: str | None = None
    """A commit of `policy`, whole; Invalid without the policy."""
    task: str | None = None
    """Its whole text."""
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    interrupted: bool | None = None
    quarantined: bool | None = None
    flag: FlagName | None = None
    quality: Quality | None = None
    labelled: bool | None = None
    """Whether a person has given an outcome."""
    in_set: str | None = None
    """Name of an EpisodeSet."""

    def __post_init__(self) -> None:
        if self.release is not None and self.policy is None:
            message = "is a commit of a policy: name the policy, too"
            raise Invalid(f"release: {self.release!r} {message}", fields=[("release", message)])


type _Column[T] = InstrumentedAttribute[T]
type _Key = ColumnElement[str] | InstrumentedAttribute[str]
type _Value = ColumnElement[str] | str
type Place = tuple[datetime, str]
"""An episode's in the list: when it began, and its id."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of the list: between two places, without them, and between two times."""

    older_than: Place | None = None
    newer_than: Place | None = None
    since: datetime | None = None
    until: datetime | None = None
    newest: tuple[ScalarSelect[datetime], ...] = ()
    """None is newer than any of these."""
    oldest: ScalarSelect[datetime] | None = None

    def of(self, which: EpisodeFilter, *, counted: bool = True) -> "Stretch":
        """What the filter leaves of it: its times and, `counted`, those of the policy, release and task that it names.

        They may have ended long ago, or begun after each other's end: the index of what else is asked for would walk
        through everything since.
        """
        narrowed = replace(self, since=which.since, until=which.until)
        if not counted:
            return narrowed
        newest, oldest = [], None
        flagged = which.flag is not None or which.quality == Quality.FLAGGED
        if which.release is not None:
            newest.append(newest_of_release("started_at", which.policy, which.release))
        elif which.policy is not None and which.robot is None and (which.task or which.flag or which.quality):
            newest.append(_newest("started_at", _Other.policy_repo, _Other.policy_repo <= which.policy))
        if which.task is not None:
            newest.append(newest_of_task("started_at", which.task[:TASK_BEGINNING_CHARS]))
            # Beside flags PostgreSQL would expect so few that it reads all of them first.
            oldest = None if which.policy is None or flagged else _oldest_of_policy(which.policy)
        return replace(narrowed, newest=tuple(newest), oldest=oldest)

    def conditions(self, started_at: _Column[datetime], id_: _Column[str]) -> list[ColumnElement[bool]]:
        """Of any table that has these: PostgreSQL carries over from one to another what is equal, not what is less."""
        place = tuple_(started_at, id_)
        found = [] if self.older_than is None else [place < tuple_(*map(literal, self.older_than))]
        found += [] if self.newer_than is None else [place > tuple_(*map(literal, self.newer_than))]
        found += [started_at <= newest for newest in self.newest]
        # As a place, not a time: between two times that it does not know, PostgreSQL expects one row in two hundred.
        found += [] if self.oldest is None else [place >= tuple_(self.oldest, literal(""))]
        found += [] if self.since is None else [started_at >= self.since]
        return found + ([] if self.until is None else [started_at < self.until])


EVERYTHING = Stretch()
_Other = aliased(Episode)


@dataclass(frozen=True, slots=True)
class Page:
    items: Sequence[Episode]
    next_cursor: str | None
    """Give it back to get the next page; None on the last."""


async def list_episodes(session: AsyncSession, which: EpisodeFilter, limit: int, cursor: str | None = None) -> Page:
    """Episodes, newest first. Pages are stable: an episode arriving in between neither repeats nor hides one."""
    stretch = Stretch(None if cursor is None else _decode(cursor))
    query = matching(which, stretch).order_by(Episode.started_at.desc(), Episode.id.desc()).limit(limit + 1)
    found = (await session.scalars(query)).all()
    items = found[:limit]
    return Page(items, _encode(items[-1]) if len(found) > limit else None)


def matching(which: EpisodeFilter, stretch: Stretch = EVERYTHING) -> Select[Episode]:
    """The episodes of a filter, in no order."""
    return select(Episode).where(*conditions(which, stretch))


def conditions(
    which: EpisodeFilter, stretch: Stretch = EVERYTHING, *, counted: bool = True
) -> list[ColumnElement[bool]]:
    """Each is answered by an index of its own, alone and by pairs (tests/server/test_episode_plans.py).

    Not `counted`: for an estimate.
    """
    stretch = stretch.of(which, counted=counted)
    found = stretch.conditions(Episode.started_at, Episode.id)
    if which.robot is not None:
        found.append(Episode.robot_id == which.robot)
    if which.policy is not None:
        found.append(Episode.policy_repo == which.policy)
    if which.release is not None:
        found.append(Episode.policy_commit == which.release)
    if which.task is not None:
        found += _of_task(which.task)
    if which.outcome is not None:
        found.append(Episode.result == which.outcome)
    if which.interrupted is not None:
        found.append(_bare(Episode.interrupted, which.interrupted))
    if which.quarantined is not None:
        found.append(_bare(Episode.quarantined, which.quarantined))
    if which.flag is not None:
        found.append(_flagged(which.flag.value, stretch))
    if which.quality is not None:
        found.append(_of_quality(which.quality, stretch))
    if which.labelled is not None:
        found.append(Episode.label_outcome.is_not(None) if which.labelled else Episode.label_outcome.is_(None))
    if which.in_set is not None:
        found.append(_in_set(which.in_set, stretch))
    return found


def newest_of_release(column: str, policy: str | None, commit: _Value) -> ScalarSelect[Any]:
    """A column of a release's newest episode; of another release's, or NULL, where there is none."""
    commits = _Other.policy_commit
    return _newest(column, commits, _Other.policy_repo == policy, commits <= commit)


def newest_of_task(column: str, beginning: _Value) -> ScalarSelect[Any]:
    """The same of a task, by its beginning."""
    beginnings = task_beginning(_Other)
    return _newest(column, beginnings, beginnings <= beginning)


def _oldest_of_policy(policy: str) -> ScalarSelect[Any]:
    """When it began, as `_newest` finds when it ended."""
    order = _Other.policy_repo, _Other.started_at, _Other.id
    return select(_Other.started_at).where(_Other.policy_repo >= policy).order_by(*order).limit(1).scalar_subquery()


def _newest(column: str, key: _Key, *where: ColumnElement[bool]) -> ScalarSelect[Any]:
    """In the order of one index alone: where the key is equal, PostgreSQL may walk from the newest of all episodes."""
    order = key.desc(), _Other.started_at.desc(), _Other.id.desc()
    return select(getattr(_Other, column)).where(*where).order_by(*order).limit(1).scalar_subquery()


def _of_task(task: str) -> list[ColumnElement[bool]]:
    found = [task_beginning() == task[:TASK_BEGINNING_CHARS]]
    # A shorter one is its own beginning; told twice, PostgreSQL would expect far too few.
    return found if len(task) < TASK_BEGINNING_CHARS else [*found, Episode.task == task]


def _in_set(name: str, stretch: Stretch) -> ColumnElement[bool]:
    set_id = select(EpisodeSet.id).where(EpisodeSet.name == name).scalar_subquery()
    of = EpisodeSetMember
    # Both columns, so that the set's own index is seen to have the order of the list.
    same = of.episode_id == Episode.id, of.started_at == Episode.started_at
    return exists().where(of.set_id == set_id, *same, *stretch.conditions(of.started_at, of.episode_id))


def _of_quality(quality: Quality, stretch: Stretch) -> ColumnElement[bool]:
    if quality == Quality.FLAGGED:
        return _flagged(EpisodeFlag.ANY, stretch)
    if quality == Quality.PENDING:
        return _pending(stretch)
    return ~_pending() & ~Episode.quarantined & ~_flagged(EpisodeFlag.ANY)


def _pending(stretch: Stretch = EVERYTHING) -> ColumnElement[bool]:
    of = PendingEpisode
    # Both columns, as of the flags.
    same = of.episode_id == Episode.id, of.started_at == Episode.started_at
    return exists().where(*same, *stretch.conditions(of.started_at, of.episode_id))


def _flagged(flag: str, stretch: Stretch = EVERYTHING) -> ColumnElement[bool]:
    of = EpisodeFlag
    # Both columns, so that the flags' own index is seen to have the order of the list.
    same = of.episode_id == Episode.id, of.started_at == Episode.started_at
    return exists().where(of.flag == flag, *same, *stretch.conditions(of.started_at, of.episode_id))


def _bare(column: InstrumentedAttribute[bool], wanted: bool) -> ColumnElement[bool]:
    """The column alone: PostgreSQL does not see that a partial index `WHERE column` fits `column IS true`."""
    return and_(column) if wanted else not_(column)


async def list_policies(session: AsyncSession) -> list[str]:
    """Those of which there are episodes, by name."""
    return [name for name in await session.scalars(policies_query()) if name]


def policies_query() -> Select[Any]:
    return select(hops(Episode.policy_repo))


def hops(
    of: ColumnElement[str] | InstrumentedAttribute[str], *where: ColumnElement[bool], most: int | None = None
) -> Subquery:
    """Its first values (`value`), from one to the next along an index: DISTINCT would read every episode."""
    found = select(func.min(of).label("value")).where(*where).cte("hops", recursive=True)
    following = select(func.min(of)).where(*where, of > found.c.value).scalar_subquery()
    found = found.union_all(select(following).where(found.c.value.is_not(None)))
    return select(found.c.value).where(found.c.value.is_not(None)).limit(most).subquery()


async def get_episode(session: AsyncSession, episode_id: str, *, with_meta: bool = False) -> Episode:
    """Raises Gone for a deleted one, NotFound for one that never was. Its `meta` can be read only `with_meta`."""
    found = await session.get(Episode, episode_id, options=[undefer(Episode.meta)] if with_meta else [])
    if found is None:
        deleted = await session.get(DeletedEpisode, episode_id)
        raise tombstones.gone(deleted) if deleted else NotFound(f"no episode {episode_id!r}")
    return found


async def get_analysis(session: AsyncSession, episode_id: str) -> EpisodeAnalysis:
    found = await session.get(EpisodeAnalysis, episode_id)
    if found is None:
        raise NotFound(f"episode {episode_id!r} is not analysed yet; a worker does it (`lefleet-server jobs list`)")
    return found


async def set_label(
    session: AsyncSession, user: User, episode_id: str, outcome: str | None, note: str | None
) -> Episode:
    """A person's judgement; None takes it back. The audit log keeps who, when, old and new."""
    await labels.label(session, user, {episode_id: {"outcome": outcome, "note": note}})
    episode = await get_episode(session, episode_id)
    await session.refresh(episode)
    return episode


async def frame(blobs: BlobStore, episode: Episode, camera: str, index: int) -> bytes:
    """The JPEG seen by `camera` at tick `index`, read by byte range without opening the HDF5 file."""
    place = episode.image_index.get(camera)
    if place is None:
        raise NotFound(f"episode {episode.id} has no camera {camera!r}; it has {', '.join(episode.cameras)}")
    if not 0 <= index < episode.frames:
        raise NotFound(f"episode {episode.id} has frames 0 to {episode.frames - 1}, not {index}")
    at = place["bytes_offset"] + IMAGE_LENGTH_BYTES * index
    with its_file(episode):
        length = int.from_bytes(await blobs.read(episode.sha256, at, IMAGE_LENGTH_BYTES), "little")
        if length == 0:
            raise NotFound(f"{camera} had no picture yet at frame {index} of episode {episode.id}")
        return await blobs.read(episode.sha256, place["offset"] + place["stride"] * index, length)


async def signals(services: Services, episode: Episode) -> bytes:
    """The episode's numbers by column, JSON (see schemas.Signals)."""
    with its_file(episode):
        async with services.blobs.local(episode.sha256) as path:
            return await validation.signals(services.reader, path, services.settings.validation_timeout_s)


async def require_file(blobs: BlobStore, episode: Episode) -> None:
    """NotFound when the episode's file is lost."""
    with its_file(episode):
        if await blobs.size(episode.sha256) is None:
            raise FileNotFoundError(episode.sha256)


@contextmanager
def its_file(episode: Episode) -> Iterator[None]:
    """Makes FileNotFoundError NotFound: the episode's file is lost."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(
            f"the file of episode {episode.id} is not in the store; `lefleet-server fsck --repair` asks "
            f"{episode.robot_id} for it again"
        ) from error


def _encode(last: Episode) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.started_at.isoformat(), last.id]).encode()).decode()


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        started_at, episode_id = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        started = datetime.fromisoformat(started_at)
        after = started.astimezone(UTC), str(episode_id)
    except (ValueError, TypeError, OverflowError) as error:
        raise Invalid(
            "cursor: not one that this server gave out", fields=[("cursor", "use next_cursor of the page before")]
        ) from error
    return after
