"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path

READ_BYTES = 256 * 1024


def fsync_folder(folder: Path) -> None:
    """Make a creation, a rename or a deletion in this folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(path: Path, data: bytes) -> None:
    """Durable when it returns; readers see the old content or the new."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    fsync_folder(path.parent)


def replace(path: Path, data: bytes | memoryview) -> None:
    """Readers see the old content or the new. Not durable: for what is written again a second later."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.rename(path)


def blocks(path: Path, offset: int, length: int) -> Iterator[bytes]:
    """So many bytes of a file from `offset` on, or fewer where it ends. Raises OSError."""
    with path.open("rb") as file:
        file.seek(offset)
        while length > 0 and (block := file.read(min(length, READ_BYTES))):
            length -= len(block)
            yield block
