"""A policy without a network: slow waves, chunk by chunk. For tests and benchmarks."""

import platform
import time
from collections.abc import Sequence

import numpy as np

from lefleet_agent.episode import Observation, PolicyInfo
from lefleet_agent.policy import ActionChunk, Computing, Played, PolicyTraits


class ScriptedPolicy:
    """Every joint follows a sine of `amplitude` (its unit) around where it began, by the observations' own time."""

    def __init__(
        self,
        steps: int = 50,
        amplitude: float = 10.0,
        period_s: float = 4.0,
        hz: float = 30.0,
        execute_steps: int | None = None,
        cameras: tuple[str, ...] = (),
    ) -> None:
        info = PolicyInfo("lefleet/scripted", "0" * 40, "0" * 64, "scripted", {})
        self.traits = PolicyTraits(info, execute_steps or steps, cameras=cameras)
        self._ahead_s = np.arange(1, steps + 1) / hz
        self._amplitude = amplitude
        self._period_s = period_s
        self.reset()

    def reset(self) -> None:
        self._began: Observation | None = None

    def infer(self, seen: Sequence[Observation], task: str, played: Played | None = None) -> ActionChunk:
        del task, played
        start_ns = time.monotonic_ns()
        began = self._began = self._began or seen[-1]
        times_s = (seen[-1].read_monotonic_ns - began.read_monotonic_ns) * 1e-9 + self._ahead_s
        wave = self._amplitude * np.sin(2 * np.pi * times_s / self._period_s)
        actions = (began.joints + wave[:, None]).astype(np.float32)
        return ActionChunk(actions, inference_ns=time.monotonic_ns() - start_ns)

    def computing(self) -> Computing:
        return Computing("cpu", platform.machine(), "fp32", torch="none")
