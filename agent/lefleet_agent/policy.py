"""The edge towards whatever decides the next actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lefleet_agent.episode import Floats, Observation, PolicyInfo


class PolicyError(Exception):
    """The policy cannot be used: the message names the file or feature, its value and the remedy."""


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """Consecutive joint targets, one for each tick; the first is for the tick of the newest observation."""

    actions: Floats
    """Shape (steps, joints), in the robot's joint order and units."""
    preprocess_ns: int = 0
    inference_ns: int = 0


@dataclass(frozen=True, slots=True)
class PolicyTraits:
    """What control needs to know of a policy to play its chunks."""

    info: PolicyInfo
    execute_steps: int
    """How many actions of a chunk it was made to play before it looks again (LeRobot's `n_action_steps`)."""
    history: int = 1
    """How many consecutive observations it wants (LeRobot's `n_obs_steps`)."""
    cameras: tuple[str, ...] = ()
    """The cameras it looks at."""
    ensemble_coefficient: float | None = None
    """ACT's temporal ensembling: exp(-coefficient * i) weighs the i-th oldest chunk; None where it has none."""
    judge_cameras: tuple[str, ...] = ()
    """The cameras that the reward model beside it looks at; none: there is no reward model."""


@dataclass(frozen=True, slots=True)
class Computing:
    """What a policy computes on, and the most that it took of a GPU so far; None where there is none."""

    device: str
    """`cpu` or `cuda`."""
    name: str
    precision: str
    torch: str
    gpu_allocated_peak_bytes: int | None = None
    """What its tensors took (torch.cuda.max_memory_allocated)."""
    gpu_reserved_peak_bytes: int | None = None
    """What torch held for them (torch.cuda.max_memory_reserved)."""
    gpu_free_bytes: int | None = None
    """What is left beside that, now."""
    gpu_shares_memory: bool = False
    """The GPU has no memory of its own and takes the machine's: a Jetson."""


@dataclass(frozen=True, slots=True)
class Played:
    """How far the chunk before has been played, for a policy that continues it (real-time chunking)."""

    steps: int
    """Actions of it that have been sent."""
    delay: int
    """Ticks that the answer is expected to take; so many more of them will have been sent."""


class Policy(Protocol):
    """Computes chunks, and takes as long as that takes."""

    @property
    def traits(self) -> PolicyTraits: ...

    def reset(self) -> None:
        """Forget the episode that ended."""

    def infer(self, seen: Sequence[Observation], task: str, played: Played | None = None) -> ActionChunk:
        """The actions from the newest observation on. `seen`: `traits.history` observations, oldest first."""

    def computing(self) -> Computing: ...


class PolicyRunner(Protocol):
    """A policy that computes beside the control thread; one question at a time."""

    @property
    def traits(self) -> PolicyTraits: ...

    def reset(self) -> None:
        """Forget the episode that ended, and a question that was not answered."""

    def ask(self, seen: Sequence[Observation], task: str, played: Played | None) -> None:
        """Begin to compute a chunk. Never waits for it; the observations are copied. Raises PolicyError."""

    def answer(self, wait_s: float = 0.0) -> ActionChunk | None:
        """The chunk asked for, None if it is not ready within `wait_s`. Raises PolicyError: there will be none."""

    def ask_judge(self, seen: Observation) -> None:
        """Let the reward model look at these pictures, when `traits.judge_cameras` names some. Never waits for it;
        one question at a time. Raises PolicyError."""

    def judged(self) -> float | None:
        """The probability that the task is done, None while there is no answer. Raises PolicyError."""

    def close(self) -> None:
        """Give up whatever it holds."""
