"""Time for the control loop, and an absolute schedule on it."""

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic_ns(self) -> int: ...

    def wall_ns(self) -> int: ...

    def sleep_until(self, monotonic_ns: int) -> None: ...


class SystemClock:
    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def sleep_until(self, monotonic_ns: int) -> None:
        left_ns = monotonic_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns * 1e-9)


class Schedule:
    """Deadlines at start + n / hz. Ones that have wholly passed are skipped, never caught up in a burst."""

    def __init__(self, clock: Clock, hz: float) -> None:
        self._clock = clock
        self._period_ns = round(1e9 / hz)
        self._next_ns = clock.monotonic_ns()

    def wait(self) -> tuple[int, int]:
        """Sleep until the next deadline; returns (monotonic now, lateness), both ns."""
        self._clock.sleep_until(self._next_ns)
        now_ns = self._clock.monotonic_ns()
        lateness_ns = max(0, now_ns - self._next_ns)
        self._next_ns += self._period_ns * (1 + lateness_ns // self._period_ns)
        return now_ns, lateness_ns
