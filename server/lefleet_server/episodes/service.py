"""Episodes: finding them, reading from their files, labelling them."""

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, exists, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import User
from lefleet_server.analysis.models import EpisodeAnalysis
from lefleet_server.audit.service import audit
from lefleet_server.episodes import validation
from lefleet_server.episodes.models import Episode
from lefleet_server.problems import Invalid, NotFound
from lefleet_server.services import Services
from lefleet_server.storage import BlobStore

IMAGE_LENGTH_BYTES = 4
"""Size of one entry of /observations/image_bytes/<camera>, little endian."""


@dataclass(frozen=True, slots=True)
class EpisodeFilter:
    """Which episodes; None does not restrict. `outcome` compares with `Episode.result`."""

    robot: str | None = None
    policy: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    interrupted: bool | None = None
    quarantined: bool | None = None


@dataclass(frozen=True, slots=True)
class Page:
    items: Sequence[Episode]
    next_cursor: str | None
    """Give it back to get the next page; None on the last."""


async def list_episodes(session: AsyncSession, which: EpisodeFilter, limit: int, cursor: str | None = None) -> Page:
    """Episodes, newest first. Pages are stable: an episode arriving in between neither repeats nor hides one."""
    query = select(Episode).order_by(Episode.started_at.desc(), Episode.id.desc()).limit(limit + 1)
    if which.robot is not None:
        query = query.where(Episode.robot_id == which.robot)
    if which.policy is not None:
        query = query.where(Episode.policy_repo == which.policy)
    if which.outcome is not None:
        query = query.where(Episode.result == which.outcome)
    if which.since is not None:
        query = query.where(Episode.started_at >= which.since)
    if which.until is not None:
        query = query.where(Episode.started_at < which.until)
    if which.interrupted is not None:
        query = query.where(Episode.interrupted.is_(which.interrupted))
    if which.quarantined is not None:
        query = query.where(quarantined() if which.quarantined else ~quarantined())
    if cursor is not None:
        query = query.where(tuple_(Episode.started_at, Episode.id) < tuple_(*_decode(cursor)))
    found = (await session.scalars(query)).all()
    items = found[:limit]
    return Page(items, _encode(items[-1]) if len(found) > limit else None)


async def policies(session: AsyncSession) -> Sequence[str]:
    """The policy repos that have episodes, sorted."""
    return (await session.scalars(select(Episode.policy_repo).distinct().order_by(Episode.policy_repo))).all()


async def get_episode(session: AsyncSession, episode_id: str) -> Episode:
    found = await session.get(Episode, episode_id)
    if found is None:
        raise NotFound(f"no episode {episode_id!r}")
    return found


def quarantined() -> ColumnElement[bool]:
    """Whether the episode's file was found to be invalid."""
    bad = EpisodeAnalysis.episode_id == Episode.id, EpisodeAnalysis.state == "quarantined"
    return exists().where(*bad)


async def get_analysis(session: AsyncSession, episode_id: str) -> EpisodeAnalysis:
    found = await session.get(EpisodeAnalysis, episode_id)
    if found is None:
        raise NotFound(f"episode {episode_id!r} is not analysed yet; a worker does it (`lefleet-server jobs list`)")
    return found


async def set_label(
    session: AsyncSession, user: User, episode_id: str, outcome: str | None, note: str | None
) -> Episode:
    """A person's judgement; None takes it back. The audit log keeps who, when, old and new."""
    episode = await session.get(Episode, episode_id, with_for_update=True)
    if episode is None:
        raise NotFound(f"no episode {episode_id!r}")
    old = {"outcome": episode.label_outcome, "note": episode.label_note}
    new = {"outcome": outcome, "note": note}
    if old == new:
        return episode
    episode.label_outcome, episode.label_note = outcome, note
    audit(session, f"user:{user.username}", "episode.labelled", f"episode:{episode_id}", {"old": old, "new": new})
    await session.flush()
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
    with _its_file(episode):
        length = int.from_bytes(await blobs.read(episode.sha256, at, IMAGE_LENGTH_BYTES), "little")
        if length == 0:
            raise NotFound(f"{camera} had no picture yet at frame {index} of episode {episode.id}")
        return await blobs.read(episode.sha256, place["offset"] + place["stride"] * index, length)


async def signals(services: Services, episode: Episode) -> bytes:
    """The episode's numbers by column, JSON (see schemas.Signals)."""
    with _its_file(episode):
        async with services.blobs.local(episode.sha256) as path:
            return await validation.signals(services.reader, path, services.settings.validation_timeout_s)


async def require_file(blobs: BlobStore, episode: Episode) -> None:
    """NotFound when the episode's file is lost."""
    with _its_file(episode):
        if await blobs.size(episode.sha256) is None:
            raise FileNotFoundError(episode.sha256)


@contextmanager
def _its_file(episode: Episode) -> Iterator[None]:
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
