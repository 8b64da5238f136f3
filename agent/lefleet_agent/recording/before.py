"""The last seconds before an event, kept encoded in memory while no episode runs."""

from collections import deque
from dataclasses import dataclass, replace

from lefleet_agent.recording.journal import Picture


@dataclass(frozen=True, slots=True)
class Kept:
    """One tick that belongs to no episode."""

    tick: bytes
    number: int
    monotonic_ns: int
    wall_ns: int
    pictures: list[Picture]
    """Those that this tick was the first to see."""


def missing(kept: list[Kept]) -> int:
    """How many ticks between the first and the last did not come here."""
    return kept[-1].number - kept[0].number + 1 - len(kept)


class Before:
    def __init__(self, seconds: float) -> None:
        self._kept_ns = seconds * 1e9
        self._ticks: deque[Kept] = deque()
        self._older: dict[int, Picture] = {}
        """The newest picture of each camera from before the first tick that is kept."""

    def add(self, tick: Kept) -> None:
        self._ticks.append(tick)
        while tick.monotonic_ns - self._ticks[0].monotonic_ns > self._kept_ns:
            self._older |= {picture.camera: picture for picture in self._ticks.popleft().pictures}

    def take(self) -> list[Kept]:
        """What is kept, the first tick with a picture of each camera; nothing is kept after."""
        ticks, older = list(self._ticks), self._older
        self.forget()
        if ticks:
            pictures = older | {picture.camera: picture for picture in ticks[0].pictures}
            ticks[0] = replace(ticks[0], pictures=list(pictures.values()))
        return ticks

    def forget(self) -> None:
        self._ticks.clear()
        self._older = {}
