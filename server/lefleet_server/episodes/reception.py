"""How much memory the bodies of uploads may take at once in one process."""

from collections.abc import Iterator
from contextlib import contextmanager

from lefleet_server.problems import Unavailable

_AGAIN_S = 5


class Reception:
    """Counts bytes. Who finds no room is told to come again, before anything of the body is read."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._taken_bytes = 0

    @contextmanager
    def room(self, size_bytes: int) -> Iterator[None]:
        """For one body while the block lasts. One alone may take more than there is. Raises Unavailable."""
        if self._taken_bytes and self._taken_bytes + size_bytes > self._most_bytes:
            raise Unavailable(
                f"the uploads that are being received take {self._taken_bytes} bytes of upload_memory_bytes = "
                f"{self._most_bytes}; try again in {_AGAIN_S} s",
                headers={"Retry-After": str(_AGAIN_S)},
            )
        self._taken_bytes += size_bytes
        try:
            yield
        finally:
            self._taken_bytes -= size_bytes
