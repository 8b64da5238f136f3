"""How long a file that is replaced all the time has not been. By its changes: a file's date is the wall clock's."""

import time
from collections.abc import Callable
from pathlib import Path


class Silence:
    """Of one file. It must be asked now and then to see the changes."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._since_s = 0.0

    def seconds(self) -> float:
        """Since the last change that was seen. Raises OSError."""
        found = self._path.stat()
        seen, now_s = (found.st_ino, found.st_mtime_ns), self._clock()
        if self._seen is None:
            # Nothing to compare with yet, so its date must do; one in the future is as wrong as one long ago.
            self._since_s = now_s - abs(time.time() - found.st_mtime)
        elif seen != self._seen:
            self._since_s = now_s
        self._seen = seen
        return now_s - self._since_s
