"""A folder for files that live as long as one use: bounded, and cleared of what a killed process left."""

import asyncio
import fcntl
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lefleet_server.problems import NoSpace
from lefleet_server.threads import in_thread


class Scratch:
    """Building it touches nothing. One per process; several processes may share the folder."""

    def __init__(self, root: Path, limit_bytes: int, min_free_bytes: int) -> None:
        self.root = root
        self._limit_bytes = limit_bytes
        self._min_free_bytes = min_free_bytes
        self._taken_bytes = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def file(self, expected_bytes: int) -> AsyncIterator[Path]:
        """An empty file until the block ends. Waits while others of this process take the room.

        One file alone may be larger than the limit. NoSpace when the disk would be left too full.
        """
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._taken_bytes or self._taken_bytes + expected_bytes <= self._limit_bytes
            )
            self._taken_bytes += expected_bytes
        path = self.root / uuid.uuid4().hex
        try:
            descriptor = await in_thread(self._create, path, expected_bytes)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)
                os.close(descriptor)
        finally:
            async with self._changed:
                self._taken_bytes -= expected_bytes
                self._changed.notify_all()

    def clean(self) -> None:
        """Removes the files that no living process holds."""
        for path in self.root.iterdir():
            descriptor = _open(path)
            if descriptor is None:
                continue
            try:
                if _locked(descriptor):
                    path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    def require_space(self, expected_bytes: int) -> None:
        """Raises NoSpace when so many more bytes would leave less than `min_free_bytes`."""
        free = shutil.disk_usage(self.root).free
        if free - expected_bytes < self._min_free_bytes:
            raise NoSpace(
                f"the server's disk has {free} bytes free, must keep min_free_bytes = {self._min_free_bytes} and "
                f"cannot take {expected_bytes} more; free some, or lower min_free_bytes",
                headers={"Retry-After": "30"},
            )

    def _create(self, path: Path, expected_bytes: int) -> int:
        self.root.mkdir(parents=True, exist_ok=True)
        self.require_space(expected_bytes)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        _locked(descriptor)
        return descriptor


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
