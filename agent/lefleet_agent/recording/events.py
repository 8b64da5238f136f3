"""What two processes share in the kernel: counters for signals, and pipes of slot numbers for the ring."""

import os
from array import array
from collections.abc import Callable
from multiprocessing import reduction
from typing import Protocol


class DuplicateFd(Protocol):
    """A file descriptor on its way to a spawned process."""

    def detach(self) -> int: ...


class EventCounter:
    """An eventfd used as a semaphore."""

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


class NumberPipe:
    """Small numbers from one process to the other, in order. Reading and writing are system calls, so everything that
    one wrote to shared memory before `put` is seen by the other after `take`, on ARM too: no memory barrier needed."""

    def __init__(self, reading_fd: int, writing_fd: int) -> None:
        self._reading_fd, self._writing_fd = reading_fd, writing_fd

    @classmethod
    def create(cls) -> "NumberPipe":
        return cls(*os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """Readable when there is something to take."""
        return self._reading_fd

    def put(self, *numbers: int) -> None:
        """Each from 0 to 65535; a pipe has room for two thousand at least."""
        os.write(self._writing_fd, array("H", numbers).tobytes())

    def take(self, most: int) -> list[int]:
        """Up to so many, without waiting."""
        try:
            return array("H", os.read(self._reading_fd, 2 * most)).tolist()
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self._reading_fd)
        os.close(self._writing_fd)

    def __reduce__(self) -> tuple[Callable[..., "NumberPipe"], tuple[object, object]]:
        return _receive_pipe, (reduction.DupFd(self._reading_fd), reduction.DupFd(self._writing_fd))


def _receive_pipe(reading: DuplicateFd, writing: DuplicateFd) -> NumberPipe:
    return NumberPipe(reading.detach(), writing.detach())
