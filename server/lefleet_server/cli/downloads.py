"""Files, fetched many at once: resumed where they stopped, compared with their SHA-256, published whole."""

import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from lefleet_server.cli.client import Body
from lefleet_server.cli.failures import Failure, Refused, Unreachable

TRIES = 5
"""In a row without a new byte."""
_READ_BYTES = 1 << 20
_LOOK_UP_S = 1.0
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}-[0-9a-f]{32}\.h5")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file, as the server describes it; `id` is the episode's."""

    id: str
    name: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, item: dict[str, Any]) -> "Wanted":
        """Raises Failure: a name that comes from elsewhere becomes a path only if it is none of another folder's."""
        name = f"{item['robot_id']}-{item['id']}.h5"
        if not _NAME.fullmatch(name):
            raise Failure(
                f"the server names an episode {name!r}, which is no robot and episode; is it a LeFleet server?"
            )
        return cls(item["id"], name, item["sha256"], int(item["bytes"]))


class State(StrEnum):
    DOWNLOADED = "downloaded"
    PRESENT = "present"
    """It was here and right."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    wanted: Wanted
    state: State
    path: Path
    received: int = 0
    """Bytes that crossed the network."""
    error: Failure | None = None


type Open = Callable[[Wanted, int, str], AbstractContextManager[Body]]
"""Asks for a file from this byte on, if it has this ETag; otherwise from its beginning (`Api.stream`)."""


class Watcher(Protocol):
    """Hears how far each file is; from several threads."""

    def at(self, wanted: Wanted, position: int, received: int) -> None:
        """`position`: bytes that are here; `received`: of them, new from the network since the last call."""

    def gone(self, wanted: Wanted) -> None:
        """Done, or given up."""


class StoppedError(Failure):
    """Somebody wants it to end; what is here stays for the next time."""


class Downloader:
    """Fetches into one folder. `replace`: also over a file of the same name that holds something else."""

    def __init__(
        self, opened: Open, folder: Path, watcher: Watcher, *, replace: bool = False, wait_s: float = 1.0
    ) -> None:
        self.folder = folder
        self.stopping = threading.Event()
        self._opened = opened
        self._watcher = watcher
        self._replace = replace
        self._wait_s = wait_s

    def many(self, wanted: Iterable[Wanted], at_once: int) -> Iterator[Result]:
        """Results in the order in which they end. Of a long list only what is needed next is looked at."""
        pool = ThreadPoolExecutor(at_once)
        under_way: set[Future[Result]] = set()
        try:
            for one in wanted:
                under_way.add(pool.submit(self.one, one))
                if len(under_way) > at_once:
                    ended, under_way = _first_of(under_way)
                    yield from (future.result() for future in ended)
            while under_way:
                ended, under_way = _first_of(under_way)
                yield from (future.result() for future in ended)
        finally:
            # Not waited for: whoever stops here may be a person, and a thread may wait for a server that hangs.
            self.stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def one(self, wanted: Wanted) -> Result:
        """Never raises what a person can mend: the result tells it."""
        target = self.folder / wanted.name
        try:
            if target.exists():
                if self._is_right(target, wanted):
                    return Result(wanted, State.PRESENT, target)
                self._may_replace(target)
            received = self._fetch(wanted, target)
        except Failure as error:
            return Result(wanted, State.FAILED, target, error=error)
        except OSError as error:
            return Result(wanted, State.FAILED, target, error=Failure(f"{error.filename or target}: {error.strerror}"))
        finally:
            self._watcher.gone(wanted)
        return Result(wanted, State.DOWNLOADED, target, received)

    def _may_replace(self, target: Path) -> None:
        if not self._replace:
            raise Failure(f"{target}: is here with other bytes than the server's; move it away, or give --replace")

    def _is_right(self, path: Path, wanted: Wanted) -> bool:
        return path.stat().st_size == wanted.bytes and _digest(path, path.stat().st_size).hexdigest() == wanted.sha256

    def _fetch(self, wanted: Wanted, target: Path) -> int:
        part = target.with_name(target.name + ".part")
        with _own(part) as file:
            filling = _Filling(file, part, wanted)
            for _ in range(2):
                self._fill(filling)
                if filling.is_right:
                    break
                # What was here from before was wrong, or the network changed it: once more, all of it.
                filling.restart()
            else:
                raise Failure(
                    f"arrives with other bytes than its SHA-256 {wanted.sha256} says; look at what stands between here "
                    "and the server, and run `lefleet-server fsck --deep` there"
                )
            os.fsync(file)
            part.replace(target)
        sync_folder(self.folder)
        return filling.received

    def _fill(self, filling: "_Filling") -> None:
        tries = TRIES
        while not filling.is_full:
            before = filling.received
            try:
                self._receive(filling)
            except (Unreachable, Refused) as error:
                again_s = self._wait_s * 2 ** (TRIES - tries)
                if isinstance(error, Refused):
                    if error.retry_after_s is None:
                        raise
                    again_s = max(again_s, error.retry_after_s)
                tries = TRIES if filling.received > before else tries - 1
                if tries == 0:
                    raise
                self.stopping.wait(again_s)
            if self.stopping.is_set():
                raise StoppedError("stopped; run it again to go on from here")

    def _receive(self, filling: "_Filling") -> None:
        wanted = filling.wanted
        etag = f'"{wanted.sha256}"'
        with self._opened(wanted, filling.position, etag) as body:
            if body.etag != etag or body.start not in {0, filling.position}:
                raise Failure(f"the server offers another file than before ({body.etag}); run it again")
            if body.start == 0:
                filling.restart()
            for piece in body.pieces:
                filling.add(piece)
                self._watcher.at(wanted, filling.position, len(piece))
                if self.stopping.is_set() or filling.position > wanted.bytes:
                    return


def _first_of(under_way: set[Future[Result]]) -> tuple[set[Future[Result]], set[Future[Result]]]:
    """Waits for one: those that ended, and the others.

    Looks up now and then, since a Ctrl-C that comes just as a wait begins is only seen when that ends.
    """
    while True:
        ended, others = wait(under_way, timeout=_LOOK_UP_S, return_when=FIRST_COMPLETED)
        if ended:
            return ended, others


class _Filling:
    """The part that is here, with its running SHA-256."""

    def __init__(self, file: int, path: Path, wanted: Wanted) -> None:
        self._file = file
        self.wanted = wanted
        self.received = 0
        self.position = min(os.fstat(file).st_size, wanted.bytes)
        os.ftruncate(file, self.position)
        self._hash = _digest(path, self.position)

    @property
    def is_full(self) -> bool:
        return self.position >= self.wanted.bytes

    @property
    def is_right(self) -> bool:
        return self.position == self.wanted.bytes and self._hash.hexdigest() == self.wanted.sha256

    def restart(self) -> None:
        os.ftruncate(self._file, 0)
        self.position, self._hash = 0, hashlib.sha256()

    def add(self, piece: bytes) -> None:
        written = 0
        while written < len(piece):
            written += os.pwrite(self._file, piece[written:], self.position + written)
        self._hash.update(piece)
        self.position += len(piece)
        self.received += len(piece)


@contextmanager
def _own(part: Path) -> Iterator[int]:
    """The part's file, for this process alone; Failure when another one has it."""
    while True:
        file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure(f"{part}: another lefleet is downloading it") from None
            # Whoever had it may have published it meanwhile: then this is no part any more.
            if part.exists() and os.fstat(file).st_ino == part.stat().st_ino:
                try:
                    yield file
                finally:
                    if os.fstat(file).st_size == 0:
                        part.unlink(missing_ok=True)  # nothing came that would be worth keeping
                return
        finally:
            os.close(file)


def _digest(path: Path, length: int) -> "hashlib._Hash":
    found = hashlib.sha256()
    with path.open("rb") as file:
        while length > 0 and (piece := file.read(min(_READ_BYTES, length))):
            found.update(piece)
            length -= len(piece)
    return found


def sync_folder(folder: Path) -> None:
    """A file that was renamed there has its new name after a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
