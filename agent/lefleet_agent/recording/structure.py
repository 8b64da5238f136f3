"""A file in memory that keeps only what is written to it: HDF5's structure, without the data's place. And the file on
the disk that is put together from it, in order."""

import hashlib
import io
import os
from collections.abc import Buffer


class Structure(io.RawIOBase):
    """The file that HDF5 believes it writes: everything but the data, as it came."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, bytes]] = []
        self.size = 0
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self.size if whence == os.SEEK_END else 0)
        return self._position

    def write(self, data: Buffer) -> int:
        self.writes.append((self._position, bytes(data)))
        self._position += len(self.writes[-1][1])
        self.size = max(self.size, self._position)
        return len(self.writes[-1][1])

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def readinto(self, buffer: Buffer) -> int:
        """HDF5 may read what it wrote: the writes again, in their order."""
        view, start = memoryview(buffer).cast("B"), self._position
        view[:] = bytes(len(view))
        for offset, data in self.writes:
            first, last = max(offset, start), min(offset + len(data), start + len(view))
            if first < last:
                view[first - start : last - start] = data[first - offset : last - offset]
        self._position += len(view)
        return len(view)

    def between(self, first: int, last: int) -> bytearray:
        """The file's bytes from `first` up to before `last`; zero where nothing was written."""
        found = bytearray(last - first)
        self.seek(first)
        self.readinto(found)
        return found


class HashedWriter:
    """Appends to a file and hashes what it appends."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: Buffer) -> None:
        """Raises OSError."""
        view = memoryview(data)
        self._hash.update(view)
        while view:
            written = os.pwrite(self._fd, view, self.size)
            view, self.size = view[written:], self.size + written
