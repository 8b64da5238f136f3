"""A policy without a network: slow waves, chunk by chunk. For tests and benchmarks."""

import numpy as np

from lefleet_agent.episode import Floats, Observation, PolicyInfo
from lefleet_agent.policy import ActionChunk


class ScriptedPolicy:
    """Every joint follows a sine of `amplitude` (its unit) around where it began."""

    def __init__(self, steps: int = 50, amplitude: float = 10.0, period_steps: int = 120) -> None:
        self.info = PolicyInfo("lefleet/scripted", "0" * 40, "0" * 64, "scripted", {})
        self._steps = steps
        self._amplitude = amplitude
        self._period_steps = period_steps
        self.reset()

    def reset(self) -> None:
        self._step = 0
        self._centre: Floats | None = None

    def infer(self, observation: Observation, task: str) -> ActionChunk:
        del task
        if self._centre is None:
            self._centre = observation.joints.copy()
        steps = np.arange(self._step + 1, self._step + 1 + self._steps)
        self._step += self._steps
        wave = self._amplitude * np.sin(2 * np.pi * steps / self._period_steps)
        return ActionChunk((self._centre + wave[:, None]).astype(np.float32))
