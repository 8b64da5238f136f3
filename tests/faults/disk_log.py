"""What a recorder process asked the disk for, in order: every write, size, sync and name of journals and episode files.

`write_log` runs first in the recorder (`RecorderHandle(config, setup=write_log)`) and wraps the system calls that the
recorder makes; they still reach the real disk. SQLite's are not seen: it is C, and has power-cut tests of its own.
"""

import os
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOG = "LEFLEET_TEST_DISK_LOG"
"""Environment variable that names the log's file."""
FOLDERS = ("journal", "spool")


@dataclass(frozen=True)
class Data:
    """`data` was written at `offset`; None: the file was made at least so long, with zeroes."""

    inode: int
    offset: int
    data: bytes | None


@dataclass(frozen=True)
class Synced:
    """Everything about this file that stands before event `upto` is on the disk."""

    inode: int
    upto: int


@dataclass(frozen=True)
class Named:
    """The name `name` of a folder means this file from now on, and `old`, if any, nothing."""

    folder: str
    name: str
    inode: int
    old: str | None = None


@dataclass(frozen=True)
class Removed:
    folder: str
    name: str


@dataclass(frozen=True)
class FolderSynced:
    """Every name in this folder that stands before event `upto` is on the disk."""

    folder: str
    upto: int


type Event = Data | Synced | Named | Removed | FolderSynced


def read_log(path: Path) -> list[Event]:
    events: list[Event] = []
    with path.open("rb") as file:
        while file.peek(1):
            events.append(pickle.load(file))  # noqa: S301 - our own
    return events


def write_log() -> None:
    """In the recorder process: wrap the calls."""
    log = _Log(Path(os.environ[LOG]))
    for name in ("pwrite", "pwritev", "fsync", "posix_fallocate", "rename", "unlink"):
        setattr(os, name, getattr(log, name)(getattr(os, name)))


class _Log:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._lock = threading.Lock()
        self._count = 0
        self._known: set[int] = set()

    def _tell(self, event: Event) -> None:
        self._file.write(pickle.dumps(event))
        self._count += 1

    def _file_of(self, fd: int) -> int | None:
        """The inode, where it is a file that we watch; its name is told the first time."""
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.parent.name not in FOLDERS or path.name.startswith("index."):
            return None
        inode = os.fstat(fd).st_ino
        if inode not in self._known:
            self._known.add(inode)
            self._tell(Named(path.parent.name, path.name, inode))
        return inode

    def _data(self, fd: int, offset: int, data: bytes | None) -> None:
        with self._lock:
            if (inode := self._file_of(fd)) is not None:
                self._tell(Data(inode, offset, data))

    def pwrite(self, call: Callable[..., int]) -> Callable[..., int]:
        def pwrite(fd: int, data: Any, offset: int) -> int:
            done = call(fd, data, offset)
            self._data(fd, offset, bytes(memoryview(data)[:done]))
            return done

        return pwrite

    def pwritev(self, call: Callable[..., int]) -> Callable[..., int]:
        def pwritev(fd: int, parts: Any, offset: int) -> int:
            done = call(fd, parts, offset)
            self._data(fd, offset, b"".join(parts)[:done])
            return done

        return pwritev

    def posix_fallocate(self, call: Callable[..., None]) -> Callable[..., None]:
        def posix_fallocate(fd: int, offset: int, size: int) -> None:
            call(fd, offset, size)
            self._data(fd, offset + size, None)

        return posix_fallocate

    def fsync(self, call: Callable[..., None]) -> Callable[..., None]:
        def fsync(fd: int) -> None:
            upto = self._count
            call(fd)
            path = Path(f"/proc/self/fd/{fd}").readlink()
            with self._lock:
                if path.name in FOLDERS:
                    self._tell(FolderSynced(path.name, upto))
                elif (inode := self._file_of(fd)) is not None:
                    self._tell(Synced(inode, upto))

        return fsync

    def rename(self, call: Callable[..., None]) -> Callable[..., None]:
        def rename(old: Any, new: Any) -> None:
            call(old, new)
            path = Path(new)
            with self._lock:
                if path.parent.name in FOLDERS:
                    self._tell(Named(path.parent.name, path.name, path.stat().st_ino, Path(old).name))

        return rename

    def unlink(self, call: Callable[..., None]) -> Callable[..., None]:
        def unlink(path: Any) -> None:
            call(path)
            with self._lock:
                if Path(path).parent.name in FOLDERS:
                    self._tell(Removed(Path(path).parent.name, Path(path).name))

        return unlink
