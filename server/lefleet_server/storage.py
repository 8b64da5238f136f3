"""Episode files, kept under their SHA-256.

Reading goes through obstore, so that another store is a setting later. Publishing does not: obstore 0.12's LocalStore
neither fsyncs nor can be told to (object_store's `with_fsync` is not exposed; `strace` shows open, write, rename and no
fsync), and a receipt promises that the bytes survive a power cut. The upload already lies on the same file system, so
publishing it is fsync, rename, fsync, without copying a byte.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path

import obstore
from obstore.store import LocalStore


class BlobStore:
    """Content-addressed files in one local folder. Building it touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def publish(self, path: Path, sha256: str) -> None:
        """Moves a complete file in, durably; returns once a power cut can no longer take it away.

        `path` must be on the store's file system. Publishing the same bytes twice is harmless.
        Blocks: call in a thread.
        """
        with path.open("rb") as file:
            os.fsync(file.fileno())
        target = self.path(sha256)
        _make_folders(target.parent)
        path.replace(target)
        fsync_folder(target.parent)

    async def read(self, sha256: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`."""
        return bytes(await obstore.get_range_async(self._store, key(sha256), start=start, length=length))

    async def stream(self, sha256: str) -> AsyncIterator[bytes]:
        """The whole file in pieces of about 1 MiB."""
        found = await obstore.get_async(self._store, key(sha256))
        async for piece in found.stream(min_chunk_size=1 << 20):
            yield bytes(piece)

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        """A file to read while the block lasts, for a reader that needs one (HDF5): here the stored file itself.

        The path means nothing after the block, and the file must not be changed. FileNotFoundError when the store
        has no such file.
        """
        path = self.path(sha256)
        if not path.is_file():
            raise FileNotFoundError(f"no blob {sha256} in {self.root}")
        yield path

    def path(self, sha256: str) -> Path:
        """Where a file lies in this folder; readers use `local`, which works with every store."""
        return self.root / key(sha256)

    @cached_property
    def _store(self) -> LocalStore:
        return LocalStore(str(self.root.resolve()))


def key(sha256: str) -> str:
    """Two levels of folders keep each of them small."""
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"


def fsync_folder(folder: Path) -> None:
    """Makes the folder's entries (a new or renamed file) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folders(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)
