"""The seconds before an event while no episode runs: what the arm saw is kept, and saved when something happens."""

import time
from collections.abc import Callable
from typing import Protocol

from lefleet_agent.control.operator import Operator
from lefleet_agent.episode import EpisodeInfo, Frame, Observation

EMERGENCY, TAKEOVER = "emergency stop", "takeover"


class Watcher(Protocol):
    """The recorder, as far as this needs it; neither call waits."""

    def watch(self, frame: Frame) -> bool:
        """Keep this tick for a while."""

    def save_before(self, event: str, info: EpisodeInfo) -> bool:
        """Record what is kept as an episode; False when that cannot be asked for now."""


class Moments:
    """Fed with what is seen between episodes. An event that begins is saved once; what comes in an episode is in it."""

    def __init__(
        self,
        recorder: Watcher,
        operator: Operator,
        taken_over: Callable[[], list[str]],
        info: Callable[[], EpisodeInfo],
    ) -> None:
        """`info`: of an episode that is no policy's."""
        self._recorder = recorder
        self._operator = operator
        self._taken_over = taken_over
        self._info = info
        self._going_on: set[str] = set()
        self._waiting: list[str] = []
        """Events that the recorder had no room to hear of."""

    def see(self, seen: Observation) -> None:
        """One tick: the arm holds still, or moves as nobody records. Saves what an event of now asks for."""
        joints, now_ns = seen.joints, time.monotonic_ns()
        self._recorder.watch(Frame(seen, joints, joints, now_ns, time.time_ns(), 0, held=True))
        self._look()

    def fault(self, why: str) -> None:
        """The arm gives nothing more to see; told again while it lasts."""
        self._look(f"fault: {why}")

    def forget(self) -> None:
        """An episode ended: what goes on now was in it."""
        self._operator.moment()
        self._going_on, self._waiting = self._events(), []

    def _look(self, fault: str = "") -> None:
        events = self._events() | ({fault} if fault else set())
        begun, self._going_on = sorted(events - self._going_on), events
        if name := self._operator.moment():
            begun.append(name)
        # The newest says it: they have the same seconds before them, and those are saved once.
        self._waiting = (self._waiting + begun)[-1:]
        if self._waiting and self._recorder.save_before(self._waiting[0], self._info()):
            self._waiting = []

    def _events(self) -> set[str]:
        found = {EMERGENCY} if self._operator.emergency() else set()
        try:
            return found | ({TAKEOVER} if self._taken_over() else set())
        except OSError:  # a disk that is gone gives the arm to nobody
            return found
