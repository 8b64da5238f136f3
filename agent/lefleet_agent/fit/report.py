"""What was measured, what the settings need, and the verdict. docs/fit-format.md describes the file."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lefleet_agent.files import fsync_folder
from lefleet_agent.fit.measure import Timing
from lefleet_agent.policy import Computing

FORMAT = 1


class FitFileError(Exception):
    """The result cannot be written; the message names the file and what to do."""


LEFT_FREE_BYTES = 800 * 10**6
"""What must be left of the memory beside the policy: for control, its recorder and its cameras, which are not running
while it is measured; docs/operations.md has what they take."""


@dataclass(frozen=True, slots=True)
class Spread:
    p50: float
    p99: float
    max: float

    @classmethod
    def of_ns(cls, values: Sequence[int]) -> "Spread":
        """In milliseconds. Of fewer than a hundred values p99 lies close to the largest."""
        p50, p99, largest = (float(each) for each in np.percentile(np.array(values) * 1e-6, (50, 99, 100)))
        return cls(round(p50, 3), round(p99, 3), round(largest, 3))


@dataclass(frozen=True, slots=True)
class Speed:
    load_s: float
    chunks: int
    chunk_ms: Spread
    preprocess_ms: Spread
    inference_ms: Spread
    chunk_steps: int
    execute_steps: int
    control_hz: float
    mode: str
    allowed_ms: float
    """Longest time for a chunk with which the arm is never without actions; in mode sync, where it always waits,
    safety.hold_limit_s, after which the episode ends."""

    @property
    def margin(self) -> float:
        """How many times faster than it must be, by p99; below 1 it is too slow."""
        return self.allowed_ms / self.chunk_ms.p99


@dataclass(frozen=True, slots=True)
class Memory:
    process_peak_bytes: int
    gpu_allocated_peak_bytes: int | None
    gpu_reserved_peak_bytes: int | None
    gpu_available_bytes: int | None
    """Free on the GPU before the policy came."""
    gpu_shares_memory: bool
    available_bytes: int
    """What processes here could take before the policy came, the container's limit included."""
    total_bytes: int

    @property
    def needed_bytes(self) -> int:
        """Of the machine's memory."""
        return self.process_peak_bytes + (self.gpu_reserved_peak_bytes or 0 if self.gpu_shares_memory else 0)

    @property
    def fits(self) -> bool:
        return self.needed_bytes + LEFT_FREE_BYTES <= self.available_bytes


def speed(timings: Sequence[Timing], load_s: float, execute_steps: int, hz: float, mode: str, hold_s: float) -> Speed:
    allowed_s = hold_s if mode == "sync" else execute_steps / hz
    return Speed(
        round(load_s, 3),
        len(timings),
        Spread.of_ns([each.total_ns for each in timings]),
        Spread.of_ns([each.preprocess_ns for each in timings]),
        Spread.of_ns([each.inference_ns for each in timings]),
        timings[-1].steps,
        execute_steps,
        hz,
        mode,
        round(allowed_s * 1e3, 3),
    )


def memory(computing: Computing, process_peak_bytes: int, available_bytes: int, total_bytes: int) -> Memory:
    reserved, free = computing.gpu_reserved_peak_bytes, computing.gpu_free_bytes
    return Memory(
        process_peak_bytes,
        computing.gpu_allocated_peak_bytes,
        reserved,
        None if reserved is None or free is None else reserved + free,
        computing.gpu_shares_memory,
        available_bytes,
        total_bytes,
    )


def advice(speed: Speed, memory: Memory, computing: Computing, threads: int, cores: int) -> Iterator[str]:
    """What to change; nothing when it keeps up and fits."""
    if speed.margin < 1:
        yield from _faster(speed, computing, threads, cores)
    if not memory.fits:
        missing_mb = (memory.needed_bytes + LEFT_FREE_BYTES - memory.available_bytes) / 1e6
        yield (
            f"{missing_mb:.0f} MB of memory are missing: a smaller policy, no desktop (role base), swap on NVMe (role "
            "swap), or a higher limit of the container (agent_control_memory)"
        )


def _faster(speed: Speed, computing: Computing, threads: int, cores: int) -> Iterator[str]:
    if speed.mode == "sync":
        yield f"a chunk takes longer than safety.hold_limit_s = {speed.allowed_ms / 1e3:g}: episodes would end"
    else:
        steps = math.ceil(speed.chunk_ms.p99 * 1e-3 * speed.control_hz)
        if steps <= speed.chunk_steps:
            yield f"n_action_steps: {steps} in the policy's config.json (now {speed.execute_steps}) gives it the time"
        else:
            yield (
                f"a chunk has {speed.chunk_steps} steps, and {steps} pass while one is computed: no setting of "
                "n_action_steps is enough; train a policy with a longer chunk or a smaller network"
            )
    if computing.device == "cpu":
        if threads < cores:
            yield f"policy.threads: {cores} (now {threads}), if nothing else needs those cores"
        yield "policy.device: cuda, where there is a GPU"
    elif computing.precision == "fp32":
        yield "policy.precision: bf16 or fp16; loading then tries that its actions stay within policy.precision_limit"


def document(
    speed: Speed, memory: Memory, computing: Computing, about: dict[str, Any], advices: Sequence[str]
) -> dict[str, Any]:
    """The file's content. `about`: policy, robot, machine and the rest that is not measured."""
    return {
        "format": FORMAT,
        **about,
        "computing": {"device": computing.device, "name": computing.name, "precision": computing.precision,
                      "torch": computing.torch},
        "speed": asdict(speed) | {"margin": round(speed.margin, 3)},
        "memory": asdict(memory) | {"needed_bytes": memory.needed_bytes, "left_free_bytes": LEFT_FREE_BYTES},
        "keeps_up": speed.margin >= 1,
        "fits_memory": memory.fits,
        "advice": list(advices),
    }  # fmt: skip


def write(path: Path, content: dict[str, Any]) -> None:
    """Whole and durable. Raises FitFileError."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w") as file:
            file.write(json.dumps(content, indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise FitFileError(f"{path}: cannot be written ({error.strerror}); say another --output") from error
