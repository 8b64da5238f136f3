"""A file that holds disk space for the moment when there is none: a receipt must still fit, or nothing may be freed."""

import os
import shutil
from pathlib import Path

import structlog

log = structlog.get_logger()

RESERVE_BYTES = 1 << 20


class Reserve:
    """One file of `size_bytes`, made while there is room and deleted when the disk is full."""

    def __init__(self, path: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def keep(self) -> None:
        """Have it, if the disk has room for several."""
        try:
            if self._path.exists() or shutil.disk_usage(self._path.parent).free < 4 * self._size_bytes:
                return
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        except OSError as error:
            log.warning("no disk space could be reserved", path=str(self._path), reason=error.strerror)

    def give_up(self) -> bool:
        """Whether the disk is full and this made room."""
        try:
            if shutil.disk_usage(self._path.parent).free >= self._size_bytes:
                return False
            self._path.unlink()
        except OSError:  # there is none, or no disk
            return False
        log.warning("the disk is full: gave up the reserved space", path=str(self._path), bytes=self._size_bytes)
        return True
