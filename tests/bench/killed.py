"""What is left of a recording whose every process is killed: ours next to `lerobot-rollout --strategy.type=sentry`."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figure import Column, Figure, Row, compare
from lerobot_arm import TOLD
from options import Options
from processes import quiet, run_worker, tail, wait_until, worker_main
from rollout import HZ

NAME = "killed"
OURS, PEER = "LeFleet", "lerobot-rollout, sentry"
PARTS = {OURS: "ours", PEER: "sentry"}
LOST = Column("lost_s", "lost s", 2)
COLUMNS = (
    Column("sent", "ticks driven", 0),
    Column("readable", "frames readable after", 0),
    Column("lost", "frames lost", 0),
    LOST,
)


def steps(options: Options) -> int:
    return 1 + options.rounds * len(PARTS)


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    tell("an ACT with random weights")
    policy = options.folder / "act-killed"
    run_worker("rollout.py", 300, part="policy", folder=str(policy))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in PARTS}
    for turn in range(options.rounds):
        after = random.randint(2 * HZ, (4 if options.quick else 15) * HZ)  # noqa: S311 - a moment, not a secret
        for name, rounds in found.items():
            tell(name)
            rounds.append(kill_one(PARTS[name], policy, options.folder / f"killed-{turn}-{PARTS[name]}", after))
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    return Figure(
        NAME,
        f"Every process killed (-9) while it drives and records ACT at {HZ} Hz, median of {options.rounds}",
        COLUMNS,
        rows,
        tuple(compare("killed", rows, OURS, PEER, LOST, lower_is_better=True)),
        (
            "Killed 2 to 15 s after the first target, each time at another moment, the same for both. Readable: after "
            "the next start's recovery for LeFleet; what LeRobotDataset opens for sentry, which saves an episode when "
            "its video has reached some 200 MB.",
        ),
    )


def kill_one(part: str, policy: Path, folder: Path, after: int) -> dict[str, float]:
    """Drive until `after` targets were sent, kill, count what can be read."""
    told = folder.with_suffix(".told")
    arguments = {"part": part, "policy": str(policy), "folder": str(folder), "seconds": 600}
    command = [sys.executable, str(Path(__file__).with_name("rollout.py")), json.dumps(arguments)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=quiet() | {TOLD: str(told)}, start_new_session=True
        )
        try:
            wait_until(
                lambda: (told.exists() and told.stat().st_size >= after) or process.poll() is not None,
                f"{part}: {after} targets\n{tail(log)}",
                300,
                every_s=0.005,
            )
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    sent = told.stat().st_size
    readable = run_worker("killed.py", 300, part=part, folder=str(folder))["frames"]
    return {"sent": sent, "readable": readable, "lost": sent - readable, "lost_s": (sent - readable) / HZ}


def work(part: str, folder: str) -> dict[str, Any]:
    """In the worker: the frames that can be read."""
    return {"frames": recovered(Path(folder)) if part == "ours" else readable(Path(folder))}


def recovered(folder: Path) -> int:
    import h5py

    from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
    from lefleet_agent.robots.fake import FakeRobot

    handle = RecorderHandle(RecorderConfig(folder, FakeRobot("bench").info))
    handle.start()
    handle.close()
    frames = 0
    for path in folder.glob("spool/*.h5"):
        with h5py.File(path) as file:
            frames += len(file["/action"])
    return frames


def readable(folder: Path) -> int:
    from lerobot.datasets import LeRobotDataset

    try:
        return len(LeRobotDataset("lefleet/rollout_bench", root=folder))
    except (OSError, ValueError, KeyError) as error:  # nobody can train on it
        print(f"LeRobotDataset: {error!r}", file=sys.stderr)
        return 0


if __name__ == "__main__":
    worker_main(work)
