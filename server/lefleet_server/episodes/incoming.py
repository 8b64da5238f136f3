"""Files on their way in. The size of the file is the upload's offset: nothing else could be right after a `kill -9`."""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lefleet_server.problems import Locked, NoSpace, NotFound


class Incoming:
    """The folder of unfinished uploads, one file each. Building it touches nothing; all methods block."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        self.root = root
        self._min_free_bytes = min_free_bytes

    def path(self, upload_id: str) -> Path:
        return self.root / upload_id

    def create(self, upload_id: str) -> None:
        """An empty file, unless there is one."""
        self.path(upload_id).open("ab").close()

    def size(self, upload_id: str) -> int | None:
        """Bytes that arrived; None when there is no such file."""
        try:
            return self.path(upload_id).stat().st_size
        except FileNotFoundError:
            return None

    def remove(self, upload_id: str) -> None:
        self.path(upload_id).unlink(missing_ok=True)

    def require_space(self, expected_bytes: int) -> None:
        """Raises NoSpace when so many more bytes would leave less than `min_free_bytes`."""
        free = shutil.disk_usage(self.root).free
        if free - expected_bytes < self._min_free_bytes:
            raise NoSpace(
                f"the server's disk has {free} bytes free, must keep min_free_bytes = {self._min_free_bytes} and "
                f"cannot take {expected_bytes} more; free some, or lower min_free_bytes"
            )

    @contextmanager
    def locked(self, upload_id: str) -> Iterator["Part"]:
        """The file, held by nobody else, on any process of this host. Locked when someone holds it."""
        path = self.path(upload_id)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError as error:
            raise NotFound(f"no upload {upload_id!r}; begin a new one") from error
        try:
            _lock(descriptor, upload_id)
            # Between open and lock it may have become an episode: writing on would change a published file.
            if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
                raise NotFound(f"no upload {upload_id!r}; begin a new one")
            yield Part(path, descriptor)
        finally:
            os.close(descriptor)

    def idle(self, older_than_s: float) -> list[str]:
        """Uploads to which nothing was added for so long."""
        limit = time.time() - older_than_s
        return [path.name for path in self.root.iterdir() if path.stat().st_mtime < limit]


class Part:
    """One unfinished file while it is locked."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def append(self, data: bytes) -> None:
        """Writes all of it, or raises NoSpace (what fitted stays and counts)."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise NoSpace(
                    "the server's disk is full; free some of it, the upload goes on where it stopped"
                ) from error
            raise

    def sha256(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _lock(descriptor: int, upload_id: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Locked(
            f"upload {upload_id} is being written by another request; ask for its offset in a moment",
            headers={"Retry-After": "1"},
        ) from error
