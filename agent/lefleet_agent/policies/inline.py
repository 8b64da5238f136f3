"""A policy asked in the caller's own thread: for policies that answer at once, in tests and measurements."""

from collections.abc import Sequence

from lefleet_agent.episode import Observation
from lefleet_agent.policy import ActionChunk, Played, Policy, PolicyError, PolicyTraits


class InlineRunner:
    """A PolicyRunner whose `ask` computes before it returns."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._answer: ActionChunk | None = None

    @property
    def traits(self) -> PolicyTraits:
        return self._policy.traits

    def reset(self) -> None:
        self._answer = None
        self._policy.reset()

    def ask(self, seen: Sequence[Observation], task: str, played: Played | None) -> None:
        self._answer = self._policy.infer(seen, task, played)

    def answer(self, wait_s: float = 0.0) -> ActionChunk | None:
        del wait_s
        answer, self._answer = self._answer, None
        return answer

    def ask_judge(self, seen: Observation) -> None:
        del seen
        raise PolicyError("no reward model is loaded beside this policy")

    def judged(self) -> float | None:
        return None

    def close(self) -> None: ...
