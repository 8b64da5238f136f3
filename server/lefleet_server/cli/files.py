"""What a command writes where a person said."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lefleet_server.cli.client import Body
from lefleet_server.cli.downloads import Downloader, Wanted, sync_folder
from lefleet_server.cli.failures import Failure, usage
from lefleet_server.cli.output import print_json
from lefleet_server.cli.progress import Bar

type Open = Callable[[int, str], AbstractContextManager[Body]]
"""Asks for the file from this byte on, if it has this ETag; otherwise from its beginning (`Api.stream`)."""


@dataclass(frozen=True, slots=True)
class Written:
    path: Path
    bytes: int
    sha256: str


def require_apart(to: Path, as_json: bool) -> None:
    """Raises Failure where the file and what is said of it would go to the same place."""
    if as_json and is_output(to):
        raise usage("--json: standard output has the file itself; give --to a FILE")


def tell(as_json: bool, written: Written) -> None:
    """For scripts; people see the file."""
    if as_json:
        print_json({"path": str(written.path), "bytes": written.bytes, "sha256": written.sha256})


def save(to: Path, data: bytes) -> Written:
    """The whole file, or (`-`) to standard output."""
    return save_pieces(to, [data])


def save_pieces(to: Path, pieces: Iterable[bytes], sha256: str | None = None) -> Written:
    """As `save`, of what comes in pieces and cannot be resumed. What breaks off leaves no file.

    `sha256`: what it must have, where that is known.
    """
    if is_output(to):
        written = Written(to, *_write(sys.stdout.buffer.write, pieces))
        sys.stdout.buffer.flush()
        _compare(written, sha256)
        return written
    part = to.with_name(to.name + ".part")
    try:
        with _gone_if_it_fails(part), part.open("wb") as file:
            written = Written(to, *_write(file.write, pieces))
            _compare(written, sha256)
            file.flush()
            os.fsync(file.fileno())
            part.replace(to)
        sync_folder(to.parent)
    except OSError as error:
        raise Failure(f"{to}: cannot be written: {error.strerror}") from error
    return written


def fetch(to: Path, opened: Open, bar: Bar) -> Written:
    """A file whose ETag is its SHA-256: resumed where it stopped, compared, published whole. To `-`: compared.

    Raises Failure. What came until then lies in `TO.part`.
    """
    with _Opened(opened) as file:
        first = file.first
        if is_output(to) or first.sha256 is None or first.length is None:  # a server of the release before tells less
            with file(None, 0, "") as body:
                return save_pieces(to, bar.over(body), body.sha256)
        wanted = Wanted("", to.name, first.sha256, first.length)
        result = Downloader(file, to.parent, bar, replace=True).one(wanted)
    if result.error is not None:
        raise result.error
    return Written(to, wanted.bytes, wanted.sha256)


class _Opened:
    """The answer that tells the digest is the one that is read, unless its beginning is here: a server may have made
    the file for it."""

    def __init__(self, opened: Open) -> None:
        self._open = opened
        self._held = ExitStack()
        self._is_fresh = True
        self.first = self._held.enter_context(opened(0, ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @contextmanager
    def __call__(self, wanted: Wanted | None, start: int, etag: str) -> Iterator[Body]:
        is_fresh, self._is_fresh = self._is_fresh, False
        with self._held.pop_all():
            if is_fresh and start == 0:
                yield self.first
                return
        with self._open(start, etag) as body:
            yield body


def is_output(to: Path) -> bool:
    """Whether this stands for standard output."""
    return str(to) == "-"


def _write(write: Callable[[bytes], object], pieces: Iterable[bytes]) -> tuple[int, str]:
    """The count of bytes and their SHA-256."""
    count, digest = 0, hashlib.sha256()
    for piece in pieces:
        write(piece)
        digest.update(piece)
        count += len(piece)
    return count, digest.hexdigest()


def _compare(written: Written, sha256: str | None) -> None:
    if sha256 is not None and written.sha256 != sha256:
        raise Failure(
            f"{written.path}: arrives with other bytes than its SHA-256 {sha256} says; look at what stands between "
            "here and the server, and run it again"
        )


@contextmanager
def _gone_if_it_fails(part: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:  # Ctrl-C, too: nothing can be put behind it
        with suppress(OSError):
            part.unlink()
        raise
