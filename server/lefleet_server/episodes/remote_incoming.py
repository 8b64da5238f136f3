"""Files on their way into an object store: bytes that arrive at any API process can be resumed at any other.

Each piece is an object of its own under `incoming/<upload id>/`. It counts once PostgreSQL has a row that names it, and
the row's key (upload, start) can exist once: however many processes write at the same place, one of them counts.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import IO

import structlog
from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.db import Database, utc_now
from lefleet_server.episodes.incoming import Lost, Part, Whole, being_written, no_upload
from lefleet_server.episodes.models import Upload, UploadPart
from lefleet_server.problems import Locked, NotFound
from lefleet_server.storage.bucket import Bucket
from lefleet_server.storage.local import writable
from lefleet_server.storage.scratch import Scratch
from lefleet_server.threads import in_thread

_INCOMING = "incoming/"
LEASE_S = 30.0
"""How long the upload of a process that died stays locked; a living one says three times as often that it lives."""

log = structlog.get_logger()


class RemoteIncoming:
    """An Incoming in a bucket and PostgreSQL. Building it touches nothing."""

    def __init__(self, bucket: Bucket, db: Database, scratch: Scratch) -> None:
        self._bucket = bucket
        self._db = db
        self._scratch = scratch

    async def begin(self, session: AsyncSession, upload_id: str) -> int:
        return await _size(session, upload_id)

    async def size(self, upload_id: str) -> int | None:
        async with self._db.session() as session:
            return await _size(session, upload_id)

    async def remove(self, upload_id: str) -> None:
        await self._bucket.remove([each.key for each in await self._bucket.listed(f"{_INCOMING}{upload_id}/")])

    async def require_space(self, expected_bytes: int) -> None:
        """The object store says itself when it is full; the file is put together on this machine's disk."""
        await in_thread(self._scratch.require_space, expected_bytes)

    @asynccontextmanager
    async def locked(self, upload_id: str) -> AsyncIterator[Part]:
        """On any process of any host."""
        holder = uuid.uuid4().hex
        await self._claim(upload_id, holder)
        keeper = asyncio.create_task(self._keep(upload_id, holder))
        try:
            yield RemotePart(self._bucket, self._db, self._scratch, upload_id)
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
            await self._release(upload_id, holder)

    def memory_bytes(self, body_bytes: int) -> int:
        """A piece that fills, one that was taken, and its copy that is sent."""
        return 3 * min(body_bytes, RemotePart.piece_bytes)

    async def idle(self, older_than_s: float) -> set[str]:
        newest: dict[str, datetime] = {}
        for each in await self._bucket.listed(_INCOMING):
            upload_id = each.key.removeprefix(_INCOMING).partition("/")[0]
            newest[upload_id] = max(each.changed_at, newest.get(upload_id, each.changed_at))
        async with self._db.session() as session:
            for upload_id, created_at in await session.execute(select(Upload.id, Upload.created_at)):
                newest[upload_id] = max(created_at, newest.get(upload_id, created_at))
        limit = utc_now() - timedelta(seconds=older_than_s)
        return {upload_id for upload_id, at in newest.items() if at < limit}

    async def check(self) -> str:
        """The bucket is asked by the blobs' check; here, whether this machine can put a file together."""
        return await in_thread(writable, self._scratch.root)

    async def _claim(self, upload_id: str, holder: str) -> None:
        # One that ends later than a lease can was given by a clock that was ahead.
        free = or_(Upload.held_until.is_(None), ~Upload.held_until.between(func.now(), _lease()))
        async with self._db.transaction() as session:
            claim = update(Upload).where(Upload.id == upload_id, free).values(holder=holder, held_until=_lease())
            if (await session.execute(claim.returning(Upload.id))).scalar_one_or_none() is not None:
                return
            known = await session.get(Upload, upload_id)
        if known is None:
            raise no_upload(upload_id)
        raise being_written(upload_id)

    async def _keep(self, upload_id: str, holder: str) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                async with self._db.transaction() as session:
                    mine = update(Upload).where(Upload.id == upload_id, Upload.holder == holder)
                    await session.execute(mine.values(held_until=_lease()))
            except (SQLAlchemyError, OSError) as error:
                log.warning("an upload's lock was not renewed", upload=upload_id, error=str(error)[:200])

    async def _release(self, upload_id: str, holder: str) -> None:
        try:
            async with self._db.transaction() as session:
                mine = update(Upload).where(Upload.id == upload_id, Upload.holder == holder)
                await session.execute(mine.values(holder=None, held_until=None))
        except (SQLAlchemyError, OSError) as error:
            log.warning("an upload stays locked for some seconds", upload=upload_id, error=str(error)[:200])


class RemotePart:
    """One unfinished file while it is locked."""

    piece_bytes = 8 << 20

    def __init__(self, bucket: Bucket, db: Database, scratch: Scratch, upload_id: str) -> None:
        self._bucket = bucket
        self._db = db
        self._scratch = scratch
        self._upload_id = upload_id

    async def size(self) -> int:
        async with self._db.session() as session:
            return await _size(session, self._upload_id)

    async def append(self, data: bytes | memoryview) -> None:
        start = await self.size()
        # A name of its own: a process that lost the lock while it was stalled must not overwrite what counts.
        key = f"{_INCOMING}{self._upload_id}/{start:016d}-{uuid.uuid4().hex}"
        await self._bucket.put(key, bytes(data))
        row = {"upload_id": self._upload_id, "start": start, "length": len(data), "object_key": key}
        try:
            async with self._db.transaction() as session:
                added = insert(UploadPart).values(row).on_conflict_do_nothing().returning(UploadPart.start)
                won = (await session.execute(added)).scalar_one_or_none() is not None
        except IntegrityError as error:
            raise NotFound(f"upload {self._upload_id!r} was ended meanwhile; begin a new one") from error
        if not won:
            raise Locked(
                f"another request wrote at {start} of upload {self._upload_id}; ask for its offset in a moment",
                headers={"Retry-After": "1"},
            )

    @asynccontextmanager
    async def whole(self) -> AsyncIterator[Whole]:
        """Put together on this machine's disk, hashed on the way."""
        async with self._db.session() as session:
            query = select(UploadPart).where(UploadPart.upload_id == self._upload_id).order_by(UploadPart.start)
            parts = list(await session.scalars(query))
        async with self._scratch.file(sum(part.length for part in parts)) as path:
            found = hashlib.sha256()
            with path.open("r+b") as file:
                for part in parts:
                    await self._take(part, file, found)
            yield Whole(path, found.hexdigest())

    async def _take(self, part: UploadPart, file: IO[bytes], found: "hashlib._Hash") -> None:
        try:
            async for piece in self._bucket.stream(part.object_key):
                await in_thread(_write, file, found, piece)
        except FileNotFoundError as error:
            log.error("the object store lost a part", upload=self._upload_id, key=part.object_key)
            raise Lost(
                f"the object store lost the bytes from {part.start} on; send the file again",
                headers={"Retry-After": "1"},
            ) from error


def _write(file: IO[bytes], found: "hashlib._Hash", piece: bytes) -> None:
    file.write(piece)
    found.update(piece)


def _lease() -> ColumnElement[datetime]:
    return func.now() + timedelta(seconds=LEASE_S)


async def _size(session: AsyncSession, upload_id: str) -> int:
    parts = select(func.max(UploadPart.start + UploadPart.length)).where(UploadPart.upload_id == upload_id)
    return await session.scalar(parts) or 0
