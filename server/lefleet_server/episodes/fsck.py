"""Compares rows and files both ways. Safe beside running servers: what is young or being uploaded is left alone.

Nothing is deleted but files of deleted episodes. What is wrong goes to `lost+found`; an episode without a file keeps
its row, labels and history, and its robot is asked for the file again. Previews are made anew.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server import analysis
from lefleet_server.analysis import service as analyses
from lefleet_server.config import Settings
from lefleet_server.db import Database, utc_now
from lefleet_server.deletion import files, tombstones
from lefleet_server.episodes.bounded import Fresh
from lefleet_server.episodes.ingest import episode_row
from lefleet_server.episodes.models import Episode, Upload
from lefleet_server.episodes.validation import READER, Facts, examine
from lefleet_server.jobs.queue import enqueue
from lefleet_server.previews.fsck import Previews
from lefleet_server.problems import Invalid, Unavailable
from lefleet_server.robots.models import Robot
from lefleet_server.storage import BlobStore, Found, folder_bounds, key

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
                finding = await self._lost(row, Fault.MISSING)
                if finding is not None:
                    yield finding

    async def _file_of(self, row: _Row, file: Found) -> Finding | None:
        fault = await self._fault(row, file.bytes)
        if fault is not None:
            return await self._lost(row, fault)
        if row.blob_missing_at is None:
            return None
        if not self._repair:
            return Finding(Fault.FOUND_AGAIN, row.sha256, row.id, row.robot_id)
        await self._found_again(row)
        return Finding(Fault.FOUND_AGAIN, row.sha256, row.id, row.robot_id, "the episode has its file again", False)

    async def _fault(self, row: _Row, found_bytes: int | None) -> Fault | None:
        if found_bytes is None:
            return Fault.MISSING
        if found_bytes != row.bytes:
            return Fault.WRONG_SIZE
        if self._deep and await self._digest(row.sha256) != row.sha256:
            return Fault.WRONG_BYTES
        return None

    async def _lost(self, row: _Row, fault: Fault) -> Finding | None:
        if not self._repair:
            return Finding(fault, row.sha256, row.id, row.robot_id)
        async with self._db.transaction() as session:
            await files.lock(session, [row.sha256])
            # Asked again, now that nobody changes it: its robot may have sent the file since, or it was deleted.
            now = await self._fault(row, await self._blobs.size(row.sha256))
            if now is None or await session.get(Episode, row.id) is None:
                return None
            if now is not Fault.MISSING:
                await self._blobs.set_aside(key(row.sha256))
            at = func.coalesce(Episode.blob_missing_at, utc_now())
            await session.execute(update(Episode).where(Episode.id == row.id).values(blob_missing_at=at))
        done = "its robot is asked for the file again"
        went = "" if now is Fault.MISSING else "the file went to lost+found; "
        return Finding(now, row.sha256, row.id, row.robot_id, went + done)

    async def _found_again(self, row: _Row) -> None:
        async with self._db.transaction() as session:
            await files.lock(session, [row.sha256])
            back = update(Episode).where(Episode.id == row.id).values(blob_missing_at=None).returning(Episode.id)
            if await session.scalar(back) is not None:
                await analyses.resume(session, row.id)

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
        said = facts.attributes
        async with self._db.transaction() as session:
            await files.lock(session, [sha256])
            if await _is_known(session, sha256) or await self._blobs.size(sha256) != file.bytes:
                return None
            why = await _add(session, sha256, file.bytes, facts)
        if why is not None:
            return await self._set_aside(Fault.ORPHAN, file, why)
        return Finding(Fault.ORPHAN, sha256, said.episode_id, said.robot_id, "is an episode again", False)

    async def _set_aside(self, fault: Fault, file: Found, why: str) -> Finding | None:
        """None when a robot is sending the same bytes, or has its receipt for them."""
        name = file.sha256 or file.name
        if not self._repair:
            return Finding(fault, name)
        async with self._db.transaction() as session:
            if file.sha256 is not None:
                await files.lock(session, [file.sha256])
                if await _is_known(session, file.sha256):
                    return None
            await self._blobs.set_aside(file.name)
        return Finding(fault, name, done=f"went to lost+found: {why}", remains=False)

    async def _digest(self, sha256: str) -> str:
        found = hashlib.sha256()
        async for piece in self._blobs.stream(sha256):
            found.update(piece)
        return found.hexdigest()

    async def _still_there(self, episode_id: str) -> bool:
        async with self._db.session() as session:
            return await session.get(Episode, episode_id) is not None

    async def _rows(self, folder: str) -> dict[str, _Row]:
        async with self._db.session() as session:
            found = await session.execute(rows_query(folder))
            return {row.sha256: _Row(*row) for row in found}


def rows_query(folder: str) -> Select[str, str, str, int, datetime | None]:
    """The episodes whose SHA-256 begins so."""
    first, beyond = folder_bounds(folder)
    columns = Episode.id, Episode.robot_id, Episode.sha256, Episode.bytes, Episode.blob_missing_at
    return select(*columns).where(Episode.sha256 >= first, Episode.sha256 < beyond)


async def _add(session: AsyncSession, sha256: str, size: int, facts: Facts) -> str | None:
    """Adds the row, and has it analysed; or why there can be none."""
    said = facts.attributes
    if await session.get(Robot, said.robot_id) is None:
        return f"there is no robot {said.robot_id!r}"
    if await tombstones.of_any(session, sha256, said.episode_id) is not None:
        return f"episode {said.episode_id} was deleted"
    added = insert(Episode).values(episode_row(sha256, size, facts)).on_conflict_do_nothing().returning(Episode.id)
    if (await session.execute(added)).scalar_one_or_none() is None:
        return f"episode {said.episode_id} is stored with other bytes"
    await enqueue(session, analysis.QUEUE, [said.episode_id], analysis.VERSION)
    return None


async def _is_known(session: AsyncSession, sha256: str) -> bool:
    """Whether anything of these bytes is there, also since the rows were read, or the file is to be looked at."""
    if await files.is_used(session, sha256) or await files.is_watched(session, sha256):
        return True
    return await session.scalar(select(Upload.id).where(Upload.sha256 == sha256).limit(1)) is not None
