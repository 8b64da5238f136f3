"""What every store of episode files offers."""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from obstore import GetOptions

_NAME = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60})")


@dataclass(frozen=True, slots=True)
class Found:
    """One file as a listing shows it."""

    name: str
    """Its place below the store's root."""
    bytes: int
    changed_at: datetime
    """When it got this place; a file on its way in is young."""

    @property
    def sha256(self) -> str | None:
        """The digest that its name says; None for a file that is no blob."""
        match = _NAME.fullmatch(self.name)
        return match[3] if match else None


class OtherBytesError(OSError):
    """A stored file whose bytes are not those of its name."""


class BlobStore(Protocol):
    """Content-addressed files. FileNotFoundError: there is no such file; Unavailable: the store does not do it now."""

    async def publish(self, path: Path, sha256: str) -> None:
        """Takes a complete file in, durably; returns once a power cut can no longer take it away.

        The caller has compared its bytes with `sha256`. `path` may be moved away. Publishing the same bytes twice is
        harmless.
        """

    async def read(self, sha256: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`."""

    def stream(self, sha256: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """`length` bytes (None: all that follow) from `start`, in pieces of about 1 MiB."""

    def local(self, sha256: str) -> AbstractAsyncContextManager[Path]:
        """A file to read while the block lasts, for a reader that needs one (HDF5); it must not be changed."""

    async def size(self, sha256: str) -> int | None:
        """Bytes; None when there is no such file."""

    async def readable_name(self, sha256: str) -> str | None:
        """Its place below the folder `blobs`, for another program to read; None where another cannot."""

    async def presigned(self, sha256: str, valid_s: int) -> str:
        """An address that gives the file, for so long, to whoever has it. ValueError: a folder has none."""

    async def listed(self, folder: str) -> list[Found]:
        """The files whose names begin with `folder` and a slash, two hexadecimal digits."""

    async def set_aside(self, name: str) -> None:
        """Moves a file that should not be here to the same name in `lost+found`."""

    async def remove(self, sha256: str) -> None:
        """Removes the file durably; one that is not there is no failure."""

    async def check(self) -> str:
        """`ok`, or what is wrong with the store now, by writing to it."""


def key(sha256: str) -> str:
    """Two levels of folders keep each of them small."""
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"


def folder_bounds(folder: str) -> tuple[str, str]:
    """The SHA-256s of a folder of `listed` are from the first on and before the second, in any language's order."""
    number = int(folder, 16) + 1
    return folder, "g" if number > 0xFF else f"{number:02x}"


def part(start: int, length: int | None) -> "GetOptions":
    """How obstore is asked for `length` bytes (None: all that follow) from `start`."""
    if length is not None:
        return {"range": (start, start + length)}
    return {"range": {"offset": start}} if start else {}
