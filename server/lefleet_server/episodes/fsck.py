"""Compares rows and files both ways. Safe beside running servers: what is young or being uploaded is left alone.

Nothing is deleted but files of deleted episodes. What is wrong goes to `lost+found`; an episode without a file keeps
its row, labels and history, and its robot is asked for the file again. Previews are made anew.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.config import Settings
from lefleet_server.db import Database, utc_now
from lefleet_server.deletion import files, tombstones
from lefleet_server.episodes.bounded import Fresh
from lefleet_server.episodes.ingest import episode_row
from lefleet_server.episodes.models import Episode, Upload
from lefleet_server.episodes.validation import READER, Facts, examine
from lefleet_server.previews.fsck import Previews
from lefleet_server.problems import Invalid, Unavailable
from lefleet_server.robots.models import Robot
from lefleet_server.storage import BlobStore, Found

FOLDERS = tuple(f"{number:02x}" for number in range(256))
YOUNG_S = 3600.0
"""A file is in its place some seconds before its row: longer than any upload needs to be finished."""


class Fault(StrEnum):
    MISSING = "missing"
    WRONG_SIZE = "wrong-size"
    WRONG_BYTES = "wrong-bytes"
    ORPHAN = "orphan"
    STRAY = "stray"
    """A file whose name is no digest."""
    FOUND_AGAIN = "found-again"
    """A file that was lost is back, its row still says lost."""
    PREVIEW = "preview"
    """A preview without its file, or with another one: work for a job, and nothing lost."""
    DELETED = "deleted"
    """The file of an episode that was deleted."""


@dataclass(frozen=True, slots=True)
class Finding:
    fault: Fault
    name: str
    """The SHA-256, or a stray file's name."""
    episode_id: str | None = None
    robot_id: str | None = None
    done: str = ""
    """What the repair did; empty without one."""
    remains: bool = True
    """Whether something is still wrong."""


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    robot_id: str
    sha256: str
    bytes: int
    blob_missing_at: datetime | None


class Fsck:
    """One look through everything; `repair` mends on the way."""

    def __init__(
        self, settings: Settings, db: Database, blobs: BlobStore, *, repair: bool, deep: bool, young_s: float = YOUNG_S
    ) -> None:
        self._settings, self._db, self._blobs = settings, db, blobs
        self._repair, self._deep, self._young_s = repair, deep, young_s
        self._previews = Previews(db, blobs, repair=repair, deep=deep)

    async def findings(self, tell: Callable[[str], None]) -> AsyncIterator[Finding]:
        """Tells each folder that is done. Unavailable when the store cannot be relied on: nothing is judged then."""
        health = await self._blobs.check()
        if health != "ok":
            raise Unavailable(f"the store: {health}; nothing was compared")
        for folder in FOLDERS:
            # Rows first: one that is added meanwhile has a file that is young.
            made, rows = await self._previews.rows(folder), await self._rows(folder)
            found = await self._blobs.listed(folder)
            async for sha256, episode_id in self._previews.compare(made, found):
                done = "a job makes it again" if self._repair else ""
                yield Finding(Fault.PREVIEW, sha256, episode_id, done=done, remains=False)
            async for finding in self._compare(rows, [each for each in found if each.sha256 not in made]):
                yield finding
            tell(folder)

    async def _compare(self, rows: dict[str, _Row], found: list[Found]) -> AsyncIterator[Finding]:
        for file in found:
            row = rows.pop(file.sha256, None) if file.sha256 else None
            finding = await (self._file_without_row(file) if row is None else self._file_of(row, file))
            if finding is not None:
                yield finding
        for row in rows.values():
            # Listed before it came, or sent again since: asked once more. Deleted since: nothing is missing.
            if await self._blobs.size(row.sha256) is None and await self._still_there(row.id):
                yield await self._lost(row, Fault.MISSING, None)

    async def _file_of(self, row: _Row, file: Found) -> Finding | None:
        if file.bytes != row.bytes:
            return await self._lost(row, Fault.WRONG_SIZE, file)
        if self._deep and await self._digest(row.sha256) != row.sha256:
            return await self._lost(row, Fault.WRONG_BYTES, file)
        if row.blob_missing_at is None:
            return None
        if not self._repair:
            return Finding(Fault.FOUND_AGAIN, row.sha256, row.id, row.robot_id)
        await self._mark(row.sha256, None)
        return Finding(Fault.FOUND_AGAIN, row.sha256, row.id, row.robot_id, "the episode has its file again", False)

    async def _lost(self, row: _Row, fault: Fault, file: Found | None) -> Finding:
        if not self._repair:
            return Finding(fault, row.sha256, row.id, row.robot_id)
        done = "its robot is asked for the file again"
        if file is not None:
            await self._blobs.set_aside(file.name)
            done = f"the file went to lost+found; {done}"
        await self._mark(row.sha256, utc_now())
        return Finding(fault, row.sha256, row.id, row.robot_id, done)

    async def _file_without_row(self, file: Found) -> Finding | None:
        if file.changed_at > utc_now() - timedelta(seconds=self._young_s):
            return None
        sha256 = file.sha256
        if sha256 is None:
            return await self._set_aside(Fault.STRAY, file, "its name is no SHA-256")
        async with self._db.session() as session:
            if await _is_known(session, sha256):
                return None
            deleted = await tombstones.of_bytes(session, sha256)
        if deleted is not None:
            return await self._left_over(sha256)
        if not self._repair:
            return Finding(Fault.ORPHAN, sha256)
        return await self._adopt(file, sha256)

    async def _left_over(self, sha256: str) -> Finding:
        if not self._repair:
            return Finding(Fault.DELETED, sha256)
        async with self._db.transaction() as session:
            await files.look_at(session, [sha256])
        await files.remove_due(self._db, self._blobs)
        return Finding(Fault.DELETED, sha256, done="its episode was deleted, now the file is too", remains=False)

    async def _adopt(self, file: Found, sha256: str) -> Finding | None:
        """A valid file of a known robot becomes an episode again."""
        if await self._digest(sha256) != sha256:
            return await self._set_aside(Fault.WRONG_BYTES, file, "its bytes are not those of its name")
        try:
            async with self._blobs.local(sha256) as path:
                facts = await examine(Fresh(READER), path, self._settings.validation_timeout_s)
        except Invalid as problem:
            return await self._set_aside(Fault.ORPHAN, file, problem.detail)
        why = await self._add(file, sha256, facts)
        if why is not None:
            return await self._set_aside(Fault.ORPHAN, file, why)
        said = facts.attributes
        return Finding(Fault.ORPHAN, sha256, said.episode_id, said.robot_id, "is an episode again", False)

    async def _add(self, file: Found, sha256: str, facts: Facts) -> str | None:
        """Adds the row; or why there can be none."""
        said = facts.attributes
        async with self._db.transaction() as session:
            if await session.get(Robot, said.robot_id) is None:
                return f"there is no robot {said.robot_id!r}"
            row = episode_row(sha256, file.bytes, facts)
            await session.execute(insert(Episode).values(row).on_conflict_do_nothing())
            if await session.scalar(select(Episode.id).where(Episode.sha256 == sha256)) is None:
                return f"episode {said.episode_id} is stored with other bytes"
        return None

    async def _set_aside(self, fault: Fault, file: Found, why: str) -> Finding | None:
        name = file.sha256 or file.name
        if not self._repair:
            return Finding(fault, name)
        await self._blobs.set_aside(file.name)
        async with self._db.session() as session:
            known = file.sha256 is not None and await _is_known(session, file.sha256)
        if known and fault is not Fault.WRONG_BYTES:
            # A robot sent the same bytes at this very moment, and has its receipt.
            await self._blobs.take_back(file.name)
            return None
        return Finding(fault, name, done=f"went to lost+found: {why}", remains=False)

    async def _digest(self, sha256: str) -> str:
        found = hashlib.sha256()
        async for piece in self._blobs.stream(sha256):
            found.update(piece)
        return found.hexdigest()

    async def _mark(self, sha256: str, lost_at: datetime | None) -> None:
        async with self._db.transaction() as session:
            row = update(Episode).where(Episode.sha256 == sha256)
            at = lost_at and func.coalesce(Episode.blob_missing_at, lost_at)
            await session.execute(row.values(blob_missing_at=at))

    async def _still_there(self, episode_id: str) -> bool:
        async with self._db.session() as session:
            return await session.get(Episode, episode_id) is not None

    async def _rows(self, folder: str) -> dict[str, _Row]:
        columns = (Episode.id, Episode.robot_id, Episode.sha256, Episode.bytes, Episode.blob_missing_at)
        async with self._db.session() as session:
            found = await session.execute(select(*columns).where(Episode.sha256.startswith(folder)))
            return {row.sha256: _Row(*row) for row in found}


async def _is_known(session: AsyncSession, sha256: str) -> bool:
    """Whether anything of these bytes is there, also since the rows were read, or the file is to be looked at."""
    if await files.is_used(session, sha256) or await files.is_watched(session, sha256):
        return True
    return await session.scalar(select(Upload.id).where(Upload.sha256 == sha256).limit(1)) is not None
