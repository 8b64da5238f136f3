"""A clean stop within ten seconds of the signal, whatever hangs: each part gets what is left of one budget.

What is not done by then is cut off and left to recovery: frames are in the journal, and the next start publishes them.
"""

import contextlib
import os
import signal
import threading
import time

import structlog

from lefleet_agent import memory

log = structlog.get_logger()

BUDGET_S = 8.5
"""For what ends in order: the episode, parking, the recorder's last publication."""
LAST_S = 9.5
"""Then the process and its children end as they are."""
EXIT_CUT_SHORT = 3
"""Exit status of a process that was told to stop and could not finish in time."""


class CutShortError(Exception):
    """The stop took too long and something was cut off; the message says what, and who goes on with it."""


class Stop(threading.Event):
    """Set by a signal, or by whoever is done; the clock runs from the signal only."""

    def __init__(self) -> None:
        super().__init__()
        self._asked_s: float | None = None

    def on_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ask())

    def _ask(self) -> None:
        self.set()
        if self._asked_s is None:
            self._asked_s = time.monotonic()
            threading.Thread(target=_end_anyway, name="last-resort", daemon=True).start()

    def left_s(self, most_s: float) -> float:
        """How long something may still take, seconds: `most_s` while nobody asked for the end."""
        if self._asked_s is None:
            return most_s
        return max(0.0, min(most_s, self._asked_s + BUDGET_S - time.monotonic()))


def end(pid: int | None) -> None:
    """Kill a process, if it is still there."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, signal.SIGKILL)


def _end_anyway() -> None:
    time.sleep(LAST_S)
    log.error("the stop took too long and is cut short; the next start recovers what was recorded", limit_s=LAST_S)
    for child in memory.children(os.getpid()):
        end(child.pid)
    os._exit(EXIT_CUT_SHORT)
