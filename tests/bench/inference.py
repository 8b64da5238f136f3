"""One action chunk of ACT, as the policy's process computes it, by precision and compiled, on what this machine has."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from figure import Column, Figure, Row, compare
from options import Options
from processes import run_worker, worker_main
from scene import HEIGHT, WIDTH, film

from lefleet_agent.policies.process import PolicyOptions

NAME = "inference"
PLAIN = "fp32, uncompiled"
ROWS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "fp32, compiled": {"compile": True},
    "bf16": {"precision": "bf16"},
    "bf16, compiled": {"precision": "bf16", "compile": True},
    "fp16": {"precision": "fp16"},
    "fp16, compiled": {"precision": "fp16", "compile": True},
}
MEDIAN = Column("median_ms", "chunk p50 ms", 0)
COLUMNS = (
    MEDIAN,
    Column("worst_ms", "chunk max ms", 0),
    Column("error", "largest error to the first row, degrees", 5),
    Column("load_s", "loading s", 1),
)
ANY_ERROR = 1e6  # it is measured here, not judged


def steps(options: Options) -> int:
    return 1 + options.rounds * len(rows_of(options))


def rows_of(options: Options) -> list[str]:
    """Not those that take minutes: compiling, for a look whether this works, and fp16 on a processor."""
    rows = {name: chosen for name, chosen in ROWS.items() if not (options.quick and "compile" in chosen)}
    return [name for name, chosen in rows.items() if chosen.get("precision") != "fp16" or torch.cuda.is_available()]


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    tell("an ACT with random weights")
    policy = options.folder / "act-inference"
    run_worker("rollout.py", 300, part="policy", folder=str(policy))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in rows_of(options)}
    device = ""
    for _ in range(options.rounds):
        for name, rounds in found.items():
            tell(name)
            chunks = 3 if options.quick else 20
            sample = run_worker("inference.py", 1800, policy=str(policy), chunks=chunks, **ROWS[name])
            device = sample.pop("device")
            rounds.append(sample)
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    faster = [
        comparison
        for name in found
        if name != PLAIN
        for comparison in compare(name, rows, name, PLAIN, MEDIAN, lower_is_better=True)
    ]
    return Figure(
        NAME,
        f"A chunk of ACT (51.6 M) from two 640x480 cameras on {device}, median of {options.rounds}",
        COLUMNS,
        rows,
        tuple(faster),
        (
            "Two threads, a process for each turn; loading includes compiling, with an empty cache. The weights are "
            "random: the error says what rounding does in this network, not in yours, which is tried at loading.",
        ),
    )


def work(policy: str, chunks: int, **options: Any) -> dict[str, Any]:
    """In the worker: load the policy and ask for chunks of a swinging scene."""
    import os
    import tempfile
    import time

    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        import numpy as np

        from lefleet_agent.episode import CameraImage, Observation
        from lefleet_agent.policies.lerobot import load
        from lefleet_agent.release import describe
        from lefleet_agent.robots.fake import FakeRobot

        robot = FakeRobot("bench", height=HEIGHT, width=WIDTH).info
        wanted = replace(PolicyOptions(30, "overlap", "auto", "fp32", ANY_ERROR, 2), **options)
        folder = Path(policy)
        start_s = time.monotonic()
        loaded = load(folder, describe(folder, "lefleet/bench", "0" * 40), robot, wanted)
        load_s = time.monotonic() - start_s
        shots = film(chunks)
        spent_s, errors = [], []
        for turn in range(chunks):
            images = {name: CameraImage(turn, 0, 0, shots[name][turn]) for name in robot.cameras}
            seen = Observation(np.full(6, turn, np.float32), images, 0)
            start_s = time.monotonic()
            actions = loaded.infer([seen], "").actions
            spent_s.append(time.monotonic() - start_s)
            with loaded.as_lerobot():
                errors.append(float(np.abs(loaded.infer([seen], "").actions - actions).max()))
        computing = loaded.computing()
    return {
        "median_ms": float(np.median(spent_s)) * 1e3,
        "worst_ms": max(spent_s) * 1e3,
        "error": max(errors),
        "load_s": load_s,
        "device": f"{computing.device} ({computing.name})",
    }


if __name__ == "__main__":
    worker_main(work)
