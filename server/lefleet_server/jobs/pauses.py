"""What a worker remembers of jobs that the server's own trouble ended: which queues it leaves alone for a while, and
which jobs have a trouble of their own."""

import time
from collections.abc import Callable, Iterable

_FIRST_S = 2.0
LONGEST_S = 30.0


class Pauses:
    """Of one worker. Each is twice as long as the one before, until a job of its queue succeeds."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lengths_s: dict[str, float] = {}
        self._ends_s: dict[str, float] = {}
        self._waiting: dict[str, set[int]] = {}
        self._alone: dict[int, int] = {}

    def alone(self, job: int) -> int:
        """After a job's end by trouble: how often that happened since another of its queue succeeded.

        0: it may be everybody's trouble. More: it is the job's, a file on a bad sector say, and no reason for a pause.
        """
        if job in self._alone:
            self._alone[job] += 1
        return self._alone.get(job, 0)

    def begin(self, queue: str, job: int) -> bool:
        """After a job's end by what may be everybody's trouble. True: it is the first since one succeeded."""
        self._waiting.setdefault(queue, set()).add(job)
        first = queue not in self._lengths_s
        # What was begun before the pause and ends within it tells of the same trouble.
        if first or self._now_s() >= self._ends_s[queue]:
            self._lengths_s[queue] = _FIRST_S if first else min(2 * self._lengths_s[queue], LONGEST_S)
            self._ends_s[queue] = self._now_s() + self._lengths_s[queue]
        return first

    def end(self, queue: str, job: int) -> bool:
        """After a job's success. True: there had been trouble."""
        self._alone |= dict.fromkeys(self._waiting.pop(queue, ()), 0)
        self._alone.pop(job, None)
        self._ends_s.pop(queue, None)
        return self._lengths_s.pop(queue, None) is not None

    def open(self, queues: Iterable[str]) -> list[str]:
        """Those that are not paused now."""
        now_s = self._now_s()
        return [queue for queue in queues if self._ends_s.get(queue, now_s) <= now_s]
