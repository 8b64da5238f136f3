"""Files on their way in: what every place for them offers, and the local one."""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.problems import Locked, NoSpace, NotFound, Unavailable
from lefleet_server.storage.local import writable
from lefleet_server.threads import in_thread


@dataclass(frozen=True, slots=True)
class Whole:
    """All bytes of an upload as a local file, and their digest."""

    path: Path
    sha256: str


class Lost(Unavailable):
    """Bytes that had been kept are gone: the upload begins anew."""


class Part(Protocol):
    """One unfinished file while nobody else holds it."""

    piece_bytes: int
    """How many bytes to append at once: few enough for memory, enough to be worth a write."""

    async def size(self) -> int:
        """Bytes that arrived and are kept."""

    async def append(self, data: bytes | memoryview) -> None:
        """Keeps all of it, or raises NoSpace or Unavailable (what was kept before stays and counts)."""

    def whole(self) -> AbstractAsyncContextManager[Whole]:
        """The complete file while the block lasts. Raises Lost."""


class Incoming(Protocol):
    """Unfinished uploads. `Upload` rows say whose they are; this says how many bytes of each are kept."""

    async def begin(self, session: AsyncSession, upload_id: str) -> int:
        """Makes a place unless there is one; returns the bytes in it. The caller's transaction holds the row."""

    async def size(self, upload_id: str) -> int | None:
        """Bytes that arrived; None when there is no such place."""

    async def remove(self, upload_id: str) -> None:
        """Gives the place back."""

    async def require_space(self, expected_bytes: int) -> None:
        """Raises NoSpace when so many more bytes do not fit."""

    def locked(self, upload_id: str) -> AbstractAsyncContextManager[Part]:
        """The file, held by nobody else. Locked when someone holds it, NotFound when there is none."""

    def memory_bytes(self, body_bytes: int) -> int:
        """What the receiving of a body of so many bytes takes."""

    async def idle(self, older_than_s: float) -> set[str]:
        """Uploads to which nothing was added for so long."""

    async def check(self) -> str:
        """`ok`, or what is wrong with the place."""


class LocalIncoming:
    """A folder with one file each. Building it touches nothing.

    The size of the file is the upload's offset: nothing else could be right after a `kill -9`.
    """

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        self.root = root
        self._min_free_bytes = min_free_bytes
        self._hashes: dict[str, Hashed] = {}

    def path(self, upload_id: str) -> Path:
        return self.root / upload_id

    async def begin(self, session: AsyncSession, upload_id: str) -> int:
        return await in_thread(self._begin, upload_id)

    async def size(self, upload_id: str) -> int | None:
        return await in_thread(self._size, upload_id)

    async def remove(self, upload_id: str) -> None:
        self._hashes.pop(upload_id, None)
        await in_thread(self.path(upload_id).unlink, missing_ok=True)

    async def require_space(self, expected_bytes: int) -> None:
        free = (await in_thread(shutil.disk_usage, self.root)).free
        if free - expected_bytes < self._min_free_bytes:
            raise NoSpace(
                f"the server's disk has {free} bytes free, must keep min_free_bytes = {self._min_free_bytes} and "
                f"cannot take {expected_bytes} more; free some, or lower min_free_bytes"
            )

    @asynccontextmanager
    async def locked(self, upload_id: str) -> AsyncIterator[Part]:
        """On any process of this host."""
        path = self.path(upload_id)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError as error:
            raise no_upload(upload_id) from error
        try:
            _lock(descriptor, upload_id)
            # Between open and lock it may have become an episode: writing on would change a published file.
            if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
                raise no_upload(upload_id)
            part = LocalPart(path, descriptor, self._hashes.pop(upload_id, Hashed()))
            yield part
            self._keep(upload_id, part.hashed)
        finally:
            os.close(descriptor)

    def memory_bytes(self, body_bytes: int) -> int:
        """A piece that fills, and one that is written."""
        return 2 * min(body_bytes, LocalPart.piece_bytes)

    def _keep(self, upload_id: str, hashed: "Hashed") -> None:
        if len(self._hashes) >= _MOST_HASHES:
            self._hashes.pop(next(iter(self._hashes)))
        self._hashes[upload_id] = hashed

    async def idle(self, older_than_s: float) -> set[str]:
        return await in_thread(self._idle, time.time() - older_than_s)

    async def check(self) -> str:
        return await in_thread(writable, self.root)

    def _begin(self, upload_id: str) -> int:
        with self.path(upload_id).open("ab") as file:
            return os.fstat(file.fileno()).st_size

    def _size(self, upload_id: str) -> int | None:
        try:
            return self.path(upload_id).stat().st_size
        except FileNotFoundError:
            return None

    def _idle(self, limit: float) -> set[str]:
        return {path.name for path in self.root.iterdir() if path.stat().st_mtime < limit}


_MOST_HASHES = 4096
"""Of unfinished uploads, 200 bytes each."""


@dataclass(slots=True)
class Hashed:
    """A digest on its way: of a file's first bytes, as this process wrote them."""

    found: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    size: int = 0


class LocalPart:
    """A locked file to which bytes are appended."""

    piece_bytes = 1 << 20
    write_bytes = 256 << 10
    """For a longer write the kernel takes memory in large blocks. In a virtual machine that gives free memory back to
    its host those are the ones that are gone: the same bytes then cost ten times the processor's time (seen)."""

    def __init__(self, path: Path, descriptor: int, hashed: Hashed) -> None:
        self.path = path
        self._descriptor = descriptor
        self.hashed = hashed
        """Of all bytes, unless another process wrote some of them, or a write failed: then its size is another."""

    async def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    async def append(self, data: bytes | memoryview) -> None:
        await in_thread(self._append, data)

    @asynccontextmanager
    async def whole(self) -> AsyncIterator[Whole]:
        """The file itself, which publishing may move away."""
        yield Whole(self.path, await in_thread(self._sha256))

    def _append(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        begin = os.fstat(self._descriptor).st_size
        try:
            while view:
                view = view[os.write(self._descriptor, view[: self.write_bytes]) :]
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise NoSpace(
                    "the server's disk is full; free some of it, the upload goes on where it stopped"
                ) from error
            raise
        if self.hashed.size == begin:
            self.hashed.found.update(data)
            self.hashed.size += len(data)

    def _sha256(self) -> str:
        if self.hashed.size == os.fstat(self._descriptor).st_size:
            return self.hashed.found.hexdigest()
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _lock(descriptor: int, upload_id: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise being_written(upload_id) from error


def being_written(upload_id: str) -> Locked:
    return Locked(
        f"upload {upload_id} is being written by another request; ask for its offset in a moment",
        headers={"Retry-After": "1"},
    )


def no_upload(upload_id: str) -> NotFound:
    return NotFound(f"no upload {upload_id!r}; begin a new one")
