"""A policy's chunks on observations of this robot's shapes, one after the other, with the time that each took."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lefleet_agent.episode import CameraImage, Observation, RobotInfo
from lefleet_agent.policy import ActionChunk, Played, PolicyError, PolicyRunner

SEED = 0


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured: `chunks`, or as many as `limit_s` allows, and two at least."""

    chunks: int
    limit_s: float


@dataclass(frozen=True, slots=True)
class Timing:
    """One chunk."""

    total_ns: int
    """From the question until the answer is back in the process that asked, as control sees it."""
    preprocess_ns: int
    inference_ns: int
    steps: int


def measure(
    runner: PolicyRunner, seen: Iterator[Observation], task: str, hz: float, continues: bool, amount: Amount,
    answer_limit_s: float, progress: Callable[[int], None], stopped: Callable[[], bool],
) -> list[Timing]:  # fmt: skip
    """Without the first chunk, which an episode computes before the arm moves. `continues`: real-time chunking, where
    the policy is told of the chunk that plays. Raises PolicyError."""
    runner.reset()
    history = [next(seen) for _ in range(runner.traits.history)]
    begun_s, played = time.monotonic(), None
    timings: list[Timing] = []
    for count in range(amount.chunks + 1):
        history = [*history[1:], next(seen)]
        timing = _time(runner, history, task, played, answer_limit_s)
        if continues:
            delay = math.ceil(timing.total_ns * 1e-9 * hz)
            played = Played(min(runner.traits.execute_steps, timing.steps - 1), delay)
        if count > 0:
            timings.append(timing)
        progress(count)
        if stopped():
            raise PolicyError("stopped while its chunks were measured; nothing was written")
        if len(timings) >= 2 and time.monotonic() - begun_s > amount.limit_s:
            break
    return timings


def observations(robot: RobotInfo, seed: int = SEED) -> Iterator[Observation]:
    """Without end: joints anywhere in their range, pictures of noise, an environment about zero."""
    numbers = np.random.default_rng(seed)
    low, high = np.array(robot.joint_limits, np.float32).T
    while True:
        now_ns = time.monotonic_ns()
        images = {
            name: CameraImage(0, now_ns, now_ns, numbers.integers(0, 256, (each.height, each.width, 3), np.uint8))
            for name, each in robot.cameras.items()
        }
        environment = numbers.normal(0, 0.1, robot.environment_size).astype(np.float32)
        joints = numbers.uniform(low, high).astype(np.float32)
        yield Observation(joints, images, now_ns, environment if robot.environment_size else None)


def _time(
    runner: PolicyRunner, seen: Sequence[Observation], task: str, played: Played | None, limit_s: float
) -> Timing:
    begun_ns = time.monotonic_ns()
    runner.ask(seen, task, played)
    chunk: ActionChunk | None = runner.answer(limit_s)
    took_ns = time.monotonic_ns() - begun_ns
    if chunk is None:
        raise PolicyError(f"the policy computed no actions within {limit_s:g} s (policy.first_action_limit_s)")
    return Timing(took_ns, chunk.preprocess_ns, chunk.inference_ns, len(chunk.actions))
