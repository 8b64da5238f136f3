"""What the store holds and for whom, with what is on its way in and what is wrong."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.models import AuditEntry
from lefleet_server.config import Settings
from lefleet_server.episodes.models import Episode, RobotStored, Upload
from lefleet_server.services import Services
from lefleet_server.threads import in_thread

CHECKED = "store.checked"
STORE = "store"
_MOST_UPLOADS = 100


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files are. An object store does not say how much room it has."""

    kind: str
    """`file`, `s3`, `gs` or `az`."""
    address: str
    state: str
    """`ok`, or what is wrong with it now."""
    free_bytes: int | None
    total_bytes: int | None


@dataclass(frozen=True, slots=True)
class RobotUsage:
    robot_id: str
    episodes: int
    bytes: int
    lost: int
    """Episodes whose file fsck did not find."""
    newest_at: datetime
    """When the last one arrived, also if it was deleted since."""


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A file on its way in."""

    robot_id: str
    episode_id: str
    bytes: int
    arrived_bytes: int
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Check:
    """The last `lefleet-server fsck` that came to its end."""

    at: datetime
    found: int
    remaining: int
    repair: bool
    deep: bool


@dataclass(frozen=True, slots=True)
class Usage:
    place: Place
    robots: Sequence[RobotUsage]
    """Largest first."""
    uploads: Sequence[OpenUpload]
    """The oldest hundred."""
    uploads_open: int
    quarantined: int
    last_check: Check | None

    @property
    def episodes(self) -> int:
        return sum(robot.episodes for robot in self.robots)

    @property
    def bytes(self) -> int:
        return sum(robot.bytes for robot in self.robots)

    @property
    def lost(self) -> int:
        return sum(robot.lost for robot in self.robots)


async def usage(services: Services) -> Usage:
    async with services.db.reading() as session:
        robots = await of_robots(session)
        quarantined = await session.scalar(quarantined_query()) or 0
        open_ = await session.scalar(select(func.count()).select_from(Upload)) or 0
        rows = (await session.scalars(select(Upload).order_by(Upload.created_at).limit(_MOST_UPLOADS))).all()
        last = await _last_check(session)
    uploads = [
        OpenUpload(row.robot_id, row.episode_id, row.length, await services.incoming.size(row.id) or 0, row.created_at)
        for row in rows
    ]
    return Usage(await _place(services), robots, uploads, open_, quarantined, last)


async def of_robots(session: AsyncSession) -> list[RobotUsage]:
    """Largest first; none that has nothing stored."""
    kept = select(RobotStored).where(RobotStored.episodes > 0)
    rows = await session.scalars(kept.order_by(RobotStored.bytes.desc(), RobotStored.robot_id))
    return [RobotUsage(row.robot_id, row.episodes, row.bytes, row.lost, row.newest_at) for row in rows]


def quarantined_query() -> Select[int]:
    return select(func.count()).where(Episode.quarantined)


async def _last_check(session: AsyncSession) -> Check | None:
    query = select(AuditEntry).where(AuditEntry.subject == STORE, AuditEntry.action == CHECKED)
    entry = (await session.scalars(query.order_by(AuditEntry.at.desc()).limit(1))).one_or_none()
    if entry is None:
        return None
    return Check(entry.at, **{name: entry.detail[name] for name in ("found", "remaining", "repair", "deep")})


async def _place(services: Services) -> Place:
    settings = services.settings
    state = await services.blobs.check()
    if settings.store_dir is None:
        address = settings.store_url or ""
        return Place(urlsplit(address).scheme, address, state, None, None)
    free, total = await in_thread(_space, settings)
    return Place("file", str(settings.store_dir), state, free, total)


def _space(settings: Settings) -> tuple[int | None, int | None]:
    try:
        found = shutil.disk_usage(settings.blobs_dir)
    except OSError:
        return None, None  # `state` says what is wrong with it
    return found.free, found.total
