"""Whether the task is done, asked at every tick; nothing here makes a tick wait."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lefleet_agent.episode import Observation, Outcome
from lefleet_agent.policy import PolicyRunner


class Judge(Protocol):
    def begin(self) -> None:
        """Forget the episode that ended."""

    def done(self, seen: Observation) -> str | None:
        """Why the task counts as done, or None. Raises PolicyError."""

    @property
    def missed(self) -> Outcome:
        """What an episode is that has no time left and was never done."""


class SceneJudge:
    """A simulator knows."""

    missed = Outcome.FAILURE

    def __init__(self, outcome: Callable[[], Outcome]) -> None:
        self._outcome = outcome

    def begin(self) -> None: ...

    def done(self, seen: Observation) -> str | None:
        del seen
        return "task done" if self._outcome() is Outcome.SUCCESS else None


@dataclass(frozen=True, slots=True)
class Certainty:
    """When a reward model is believed; the settings `judge.*`."""

    threshold: float
    hold_s: float
    every_s: float


class RewardJudge:
    """A reward model beside the policy: done once it has been sure on new pictures for a while.

    A camera that freezes makes nothing done: a picture is judged once.
    """

    def __init__(self, runner: PolicyRunner, certainty: Certainty) -> None:
        self._runner = runner
        self._certainty = certainty
        self.begin()

    @property
    def missed(self) -> Outcome:
        return Outcome.FAILURE if self._answered else Outcome.UNKNOWN

    def begin(self) -> None:
        self._answered = False
        self._asked_ns: int | None = None
        self._waiting = False
        self._seen: tuple[int, ...] = ()
        self._sure_since_ns: int | None = None

    def done(self, seen: Observation) -> str | None:
        why = self._take() if self._waiting else None
        if not self._waiting and self._is_due(seen):
            self._ask(seen)
        return why

    def _is_due(self, seen: Observation) -> bool:
        due = self._asked_ns is None or seen.read_monotonic_ns - self._asked_ns >= self._certainty.every_s * 1e9
        return due and all(new != old for new, old in zip(self._pictures(seen), self._seen, strict=False))

    def _ask(self, seen: Observation) -> None:
        self._runner.ask_judge(seen)
        self._waiting, self._asked_ns, self._seen = True, seen.read_monotonic_ns, self._pictures(seen)

    def _take(self) -> str | None:
        probability = self._runner.judged()
        if probability is None:
            return None
        self._waiting, self._answered = False, True
        if probability < self._certainty.threshold:
            self._sure_since_ns = None
            return None
        asked_ns = self._asked_ns or 0
        self._sure_since_ns = asked_ns if self._sure_since_ns is None else self._sure_since_ns
        if asked_ns - self._sure_since_ns < self._certainty.hold_s * 1e9:
            return None
        return f"task done, says the reward model ({probability:.2f})"

    def _pictures(self, seen: Observation) -> tuple[int, ...]:
        return tuple(seen.images[camera].seq for camera in self._runner.traits.judge_cameras)
