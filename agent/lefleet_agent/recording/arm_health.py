"""The arm's health on its way to the recorder: once a second through the ring, beside ticks and pictures."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

from lefleet_agent.episode import ArmHealth, EpisodeInfo, Frame, Observation, Outcome
from lefleet_agent.recording.handle import RecorderHandle

PERIOD_S = 1.0


class HealthTeller:
    """Stands where control sees its sink and its recorder; passes everything on, and tells the health when it is due.

    As they are: one thread only, and `add` never waits.
    """

    def __init__(self, recorder: RecorderHandle, health: Callable[[], ArmHealth]) -> None:
        self._recorder = recorder
        self._sink = recorder.sink
        self._health = health
        self._due_s = time.monotonic()

    def begin(self, info: EpisodeInfo) -> None:
        self._sink.begin(info)

    def add(self, frame: Frame) -> bool:
        recorded = self._sink.add(frame)
        self._tell_if_due()
        return recorded

    def end(self, outcome: Outcome, interrupted: bool, reason: str) -> None:
        self._sink.end(outcome, interrupted, reason)

    def ensure_alive(self) -> None:
        self._recorder.ensure_alive()

    def preview(self, seen: Observation) -> bool:
        self._tell_if_due()
        return self._recorder.preview(seen)

    def watch(self, frame: Frame) -> bool:
        self._tell_if_due()
        return self._recorder.watch(frame)

    def save_before(self, event: str, info: EpisodeInfo) -> bool:
        return self._recorder.save_before(event, info)

    def status(self, values: Mapping[str, object]) -> bool:
        return self._recorder.status({**values, "arm": asdict(self._health())})

    def _tell_if_due(self) -> None:
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + PERIOD_S
            self._recorder.status({"arm": asdict(self._health())})
