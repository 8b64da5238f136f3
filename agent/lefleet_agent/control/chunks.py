"""Playing a policy's action chunks: the next one is computed while one plays, and joined to it without a jump.

LeRobot 0.6 has such an engine only for policies with real-time chunking; for ACT and Diffusion its loop stands still
while a chunk is computed. Joining follows the two published ways: a cross-fade between the old chunk and the new one
over a few ticks, or ACT's temporal ensembling (Zhao et al., 2023, algorithm 2) over all chunks that cover the tick.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lefleet_agent.control.clock import Clock
from lefleet_agent.control.driver import Planned
from lefleet_agent.episode import Action, Floats, Observation
from lefleet_agent.policy import ActionChunk, Played, PolicyError, PolicyRunner

_POLL_S = 0.05
_REMEMBERED = 10  # computing times from which the next one is guessed


class Mode(StrEnum):
    """When a chunk is asked for, and how it is joined."""

    SYNC = "sync"
    """When the one before has been played: the arm holds still meanwhile, as LeRobot's own loop does."""
    OVERLAP = "overlap"
    """So early that it is there in time."""
    RTC = "rtc"
    """As overlap, and the policy itself continues what is playing."""


@dataclass(slots=True)
class _Playing:
    actions: Floats
    start: int
    """The tick of its first action."""
    observed_ns: int
    joined: int
    """The tick at which it took over."""
    before: "_Playing | None" = None
    """What it is cross-faded from, as long as that lasts."""

    def covers(self, tick: int) -> bool:
        return tick - self.start < len(self.actions)

    def at(self, tick: int, blend: int) -> Action:
        """This tick's action. Past its end the last one stays: that is where the arm was led."""
        action: Action = self.actions[min(tick - self.start, len(self.actions) - 1)]
        weight = np.float32((tick - self.joined + 1) / (blend + 1))
        if self.before is None or weight >= 1:
            self.before = None
            return action
        return weight * action + (1 - weight) * self.before.at(tick, blend)


class Player:
    """A Driver: one policy's chunks, tick by tick; a tick that holds still is none."""

    def __init__(
        self,
        runner: PolicyRunner,
        mode: Mode,
        hz: float,
        blend_s: float,
        clock: Clock,
        first_action_limit_s: float = 30.0,
    ) -> None:
        """`blend_s`: how long the cross-fade between two chunks takes. `first_action_limit_s`: longest wait of `ready`
        for the first chunk."""
        self._runner = runner
        self._mode = mode
        self._hz = hz
        self._clock = clock
        self._first_action_limit_s = first_action_limit_s
        self._blend = 0 if mode is Mode.SYNC else round(blend_s * hz)
        self._execute = max(1, runner.traits.execute_steps)
        self._took_ticks: deque[int] = deque(maxlen=_REMEMBERED)
        self.begin("")

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those that the policy looks at."""
        return self._runner.traits.cameras

    def ready(self, task: str, seen: Observation, give_up: Callable[[], bool]) -> bool:
        self.begin(task)
        return self.prime(seen, self._first_action_limit_s, give_up)

    def begin(self, task: str) -> None:
        """Forget what was planned: for another episode, or because somebody else has moved the arm."""
        self._task = task
        self._runner.reset()
        self._seen: deque[Observation] = deque(maxlen=self._runner.traits.history)
        self._newest: _Playing | None = None
        self._covering: list[_Playing] = []
        self._tick = 0
        self._asked: _Asked | None = None
        self._primed: ActionChunk | None = None

    def prime(self, seen: Observation, limit_s: float, give_up: Callable[[], bool]) -> bool:
        """Wait for the first chunk while the arm rests; False when `give_up` said so. Raises PolicyError."""
        self._see(seen)
        self._ask(seen)
        deadline_ns = self._clock.monotonic_ns() + round(limit_s * 1e9)
        while self._newest is None:
            self._primed = self._take(_POLL_S)
            if self._primed is None and give_up():
                return False
            if self._primed is None and self._clock.monotonic_ns() > deadline_ns:
                raise PolicyError(f"the policy computed no actions within {limit_s:g} s")
        return True

    def next(self, seen: Observation, last: Action) -> Planned:
        """Raises PolicyError when the policy can compute no more."""
        del last
        self._see(seen)
        arrived, self._primed = self._primed, None
        arrived = self._take() or arrived
        if self._asked is None and self._is_due():
            self._ask(seen)
            arrived = self._take() or arrived
        if self._newest is None or not self._plays(self._newest):
            return Planned(None, arrived=arrived)
        action = self._ensemble() if self._ensembles else self._newest.at(self._tick, self._blend)
        self._tick += 1
        return Planned(action, self._newest.observed_ns, arrived)

    def hold(self) -> Planned:
        """The plan waits with the arm."""
        return Planned(None)

    def _see(self, seen: Observation) -> None:
        """At an episode's start the first observation stands for those before it."""
        self._seen.append(seen)
        while len(self._seen) < self._runner.traits.history:
            self._seen.append(seen)

    def _ask(self, seen: Observation) -> None:
        played = None
        if self._mode is Mode.RTC and self._newest:
            played = Played(self._tick - self._newest.start, self._lead())
        self._asked = _Asked(self._tick, seen.read_monotonic_ns, self._clock.monotonic_ns())
        self._runner.ask(list(self._seen), self._task, played)

    def _take(self, wait_s: float = 0.0) -> ActionChunk | None:
        asked = self._asked
        if asked is None or (chunk := self._runner.answer(wait_s)) is None:
            return None
        self._asked = None
        self._took_ticks.append(math.ceil((self._clock.monotonic_ns() - asked.asked_ns) * 1e-9 * self._hz))
        before = self._newest if self._blend else None
        self._newest = _Playing(chunk.actions, asked.tick, asked.observed_ns, self._tick, before)
        if self._ensembles:
            self._covering.append(self._newest)
        return chunk

    def _is_due(self) -> bool:
        if self._newest is None or self._ensembles:
            return True
        return self._tick - self._newest.start >= max(0, self._execute - self._lead())

    def _lead(self) -> int:
        """How many ticks before its end the next chunk is asked for: the longest of the last ones, and one."""
        return 0 if self._mode is Mode.SYNC else max(self._took_ticks, default=1) + 1

    def _plays(self, chunk: _Playing) -> bool:
        """A late successor is waited for with the rest of the chunk, except where LeRobot would not either."""
        if self._mode is Mode.SYNC:
            return self._tick - chunk.start < self._execute and chunk.covers(self._tick)
        return chunk.covers(self._tick)

    @property
    def _ensembles(self) -> bool:
        return self._mode is not Mode.SYNC and self._runner.traits.ensemble_coefficient is not None

    def _ensemble(self) -> Action:
        self._covering = [each for each in self._covering if each.covers(self._tick)]
        actions = np.stack([each.actions[self._tick - each.start] for each in self._covering])
        weights = np.exp(-(self._runner.traits.ensemble_coefficient or 0.0) * np.arange(len(actions)))
        mean: Action = np.average(actions, axis=0, weights=weights).astype(np.float32)
        return mean


@dataclass(frozen=True, slots=True)
class _Asked:
    tick: int
    observed_ns: int
    asked_ns: int
