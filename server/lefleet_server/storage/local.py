"""Episode files in a folder.

Reading goes through obstore, as from an object store. Publishing does not: obstore 0.12's LocalStore
neither fsyncs nor can be told to (object_store's `with_fsync` is not exposed; `strace` shows open, write, rename and no
fsync), and a receipt promises that the bytes survive a power cut. The upload already lies on the same file system, so
publishing it is fsync, rename, fsync, without copying a byte.
"""

import os
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import obstore
from obstore.store import LocalStore

from lefleet_server.problems import Unavailable
from lefleet_server.storage.blobs import Found, key, part
from lefleet_server.threads import in_thread


class LocalBlobs:
    """A BlobStore in one local folder. Building it touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    async def publish(self, path: Path, sha256: str) -> None:
        """`path` must be on the store's file system; it is moved."""
        await in_thread(_publish, path, self.path(sha256), self.root.parent)

    async def read(self, sha256: str, start: int, length: int) -> bytes:
        return bytes(await obstore.get_range_async(self._store, key(sha256), start=start, length=length))

    async def stream(self, sha256: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        found = await obstore.get_async(self._store, key(sha256), options=part(start, length))
        async for piece in found.stream(min_chunk_size=1 << 20):
            yield bytes(piece)

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        """The stored file itself. Unavailable while the whole folder is away, as of a disk that is not mounted."""
        path = self.path(sha256)
        if not await in_thread(path.is_file):
            if not await in_thread(self.root.is_dir):
                raise Unavailable(
                    f"the store: there is no folder {self.root}; mount its disk, then all goes on by itself"
                )
            raise FileNotFoundError(f"no blob {sha256} in {self.root}")
        yield path

    async def size(self, sha256: str) -> int | None:
        return await in_thread(_size, self.path(sha256))

    async def readable_name(self, sha256: str) -> str | None:
        return key(sha256) if await in_thread(_readable, self.path(sha256)) else None

    async def presigned(self, sha256: str, valid_s: int) -> str:
        raise ValueError(f"{self.root} is a folder, which has no addresses to give out")

    async def listed(self, folder: str) -> list[Found]:
        return await in_thread(self._listed, folder)

    async def set_aside(self, name: str) -> None:
        await in_thread(_move, self.root / name, self._lost / name, self.root.parent)

    async def remove(self, sha256: str) -> None:
        await in_thread(_remove, self.path(sha256))

    async def check(self) -> str:
        return await in_thread(writable, self.root)

    def path(self, sha256: str) -> Path:
        """Where a file lies in this folder; readers use `local`, which works with every store."""
        return self.root / key(sha256)

    @property
    def _lost(self) -> Path:
        return self.root.parent / "lost+found"

    @cached_property
    def _store(self) -> LocalStore:
        return LocalStore(str(self.root.resolve()))

    def _listed(self, folder: str) -> list[Found]:
        paths = [path for path in (self.root / folder).rglob("*") if not path.is_dir()]
        return [_found(path, self.root) for path in sorted(paths)]


_MOST_DURABLE = 1 << 16
_durable: set[Path] = set()
"""Folders whose own entries this process has made durable."""


def make_folders(folder: Path, top: Path) -> None:
    """Makes `folder` below `top`, so that its entry and those of the folders between survive a power cut.

    Also of those that are there: whoever made one may have been killed before its fsync, or not be there yet. `top` is
    made where it is missing.
    """
    if folder.is_dir() and (folder == top or folder in _durable):
        return
    make_folders(folder.parent, folder.parent if folder == top else top)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)
    if len(_durable) >= _MOST_DURABLE:
        _durable.clear()
    _durable.add(folder)


def fsync_folder(folder: Path) -> None:
    """Makes the folder's entries (a new or renamed file) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writable(folder: Path) -> str:
    """`ok`, or why no byte can be made durable in the folder."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"ready?")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"{folder.name}: cannot be written: {error.strerror}"
    return "ok"


def _publish(path: Path, target: Path, top: Path) -> None:
    with path.open("rb") as file:
        # Previews come closed to others; who may look into the folder at all, its own mode says.
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    _move(path, target, top)


def _move(path: Path, target: Path, top: Path) -> None:
    make_folders(target.parent, top)
    path.replace(target)
    fsync_folder(target.parent)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    fsync_folder(path.parent)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _readable(path: Path) -> bool:
    """Whether others may read it: previews from before 0644 they may not."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except FileNotFoundError:
        return False


def _found(path: Path, root: Path) -> Found:
    found = path.stat()
    # The rename that published it sets ctime; its mtime is when the robot sent the last byte, maybe long before.
    return Found(str(path.relative_to(root)), found.st_size, datetime.fromtimestamp(found.st_ctime, UTC))
