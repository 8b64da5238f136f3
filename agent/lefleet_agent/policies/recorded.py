"""A policy that has nothing to decide: it gives an episode's actions again, as one chunk."""

import platform
from collections.abc import Sequence

from lefleet_agent.episode import Floats, Observation, PolicyInfo
from lefleet_agent.policy import ActionChunk, Computing, Played, PolicyTraits


class RecordedPolicy:
    """`actions`: shape (ticks, joints). Looks at no camera."""

    def __init__(self, actions: Floats) -> None:
        info = PolicyInfo("", "", "", "replay", {})
        self.traits = PolicyTraits(info, execute_steps=len(actions))
        self._actions = actions

    def reset(self) -> None: ...

    def infer(self, seen: Sequence[Observation], task: str, played: Played | None = None) -> ActionChunk:
        del seen, task, played
        return ActionChunk(self._actions)

    def computing(self) -> Computing:
        return Computing("cpu", platform.machine(), "fp32", torch="none")
