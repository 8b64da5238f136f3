"""Files that are there whole or not at all."""

import os
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Make a creation, a rename or a deletion in this folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: Path, data: bytes | memoryview) -> None:
    """Readers see the old content or the new. Not durable: for what is written again a second later."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.rename(path)
