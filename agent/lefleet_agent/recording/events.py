"""A counter in the kernel that two processes share: the ring's credits and its signals."""

import os
from collections.abc import Callable
from multiprocessing import reduction
from typing import Protocol


class DuplicateFd(Protocol):
    """A file descriptor on its way to a spawned process."""

    def detach(self) -> int: ...


class EventCounter:
    """An eventfd used as a semaphore. Reading and writing it are system calls, so everything that one process wrote
    to shared memory before `add` is seen by the other after `take`, on ARM too: no index needs a memory barrier."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def create(cls, value: int = 0) -> "EventCounter":
        return cls(os.eventfd(value, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE))

    def fileno(self) -> int:
        return self._fd

    def add(self) -> None:
        os.eventfd_write(self._fd, 1)

    def take(self) -> bool:
        """Take one without waiting; False when the counter is 0."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._fd)

    def __reduce__(self) -> tuple[Callable[[DuplicateFd], "EventCounter"], tuple[object]]:
        return _receive, (reduction.DupFd(self._fd),)


def _receive(duplicate: DuplicateFd) -> EventCounter:
    return EventCounter(duplicate.detach())
