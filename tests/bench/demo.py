"""The running demo: seconds to the first episode on the dashboard, rate held and lateness of each robot, success.

Everything is asked of the server over its HTTP API, as the dashboard's users see it.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from demo_api import DemoApi
from figure import Column, Figure, Row, Sample
from options import REPO, Options
from processes import BenchError, Unavailable, tail, wait_until

NAME = "demo"
ROBOTS = ("robot-1", "robot-2")
WINDOW_S = 120
"""How long a demo started afresh is left alone after both robots have an episode."""
FIRST_EPISODE_S = 600
COLUMNS = (
    Column("first_s", "first episode after s", 1),
    Column("episodes", "episodes", 0),
    Column("hz", "rate held Hz", 2),
    Column("p50_ms", "lateness p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("max_ms", "max ms", 1),
    Column("success", "success %", 0),
    Column("lost", "frames lost", 0),
    Column("interrupted", "interrupted", 0),
)


def steps(options: Options) -> int:
    del options
    return 4


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    checkout = options.checkout or REPO
    fresh = options.from_clean if options.from_clean is not None else not (options.quick or DemoApi.runs(checkout))
    if not fresh and not DemoApi.runs(checkout):
        raise Unavailable("no demo runs here: start it with `make demo`, or let --from-clean start one and stop it")
    if not fresh:
        tell("asking the running demo")
        return figure(DemoApi.log_in(checkout), {}, "running")
    tell("copying the repository")
    with started(options, tell) as (api, first_s):
        tell(f"letting it run for {WINDOW_S} s")
        time.sleep(WINDOW_S)
        tell("asking the demo")
        return figure(api, first_s, "started afresh")


def figure(api: DemoApi, first_s: dict[str, float], how: str) -> Figure:
    episodes = api.episodes()
    rows = tuple(Row(name, (sample(api, name, episodes) | first(first_s, name),)) for name in ROBOTS)
    return Figure(
        NAME,
        f"The demo, {how}: two simulated robots, server and dashboard on this machine",
        COLUMNS,
        rows,
        notes=(
            "Seconds count from `make demo` in a copy without state, its environment installed, until the episode is "
            "in the dashboard's list. Lateness is over every tick of the episodes counted.",
        ),
    )


def first(first_s: dict[str, float], robot: str) -> Sample:
    return {"first_s": first_s[robot]} if robot in first_s else {}


def sample(api: DemoApi, robot: str, episodes: list[dict[str, Any]]) -> Sample:
    own = [episode for episode in episodes if episode["robot_id"] == robot]
    whole = [episode for episode in own if not episode["interrupted"]]
    if not whole:
        raise BenchError(f"the demo has no whole episode of {robot} yet; see `make status`")
    lateness_ms = np.concatenate([api.lateness_ms(episode["id"]) for episode in whole])
    return {
        "episodes": len(own),
        "hz": float(np.median([episode["hz_held"] for episode in whole])),
        "p50_ms": float(np.percentile(lateness_ms, 50)),
        "p99_ms": float(np.percentile(lateness_ms, 99)),
        "max_ms": float(lateness_ms.max()),
        "success": 100 * sum(episode["outcome"] == "success" for episode in whole) / len(whole),
        "lost": sum(episode["frames_dropped"] for episode in own),
        "interrupted": len(own) - len(whole),
    }


@contextmanager
def started(options: Options, tell: Callable[[str], None]) -> Iterator[tuple[DemoApi, dict[str, float]]]:
    """A demo without any state, stopped and forgotten at the end; and each robot's seconds to its first episode."""
    with TemporaryDirectory(dir=options.folder) as scratch:
        Path(scratch).chmod(0o755)  # PostgreSQL runs as a user of its own when we are root
        checkout = options.checkout or copy(Path(scratch) / "checkout")
        if (checkout / ".demo").exists():
            raise Unavailable(f"{checkout / '.demo'} has a demo's data; `make clean` there, or leave --checkout out")
        environment = os.environ | {"VENV": sys.prefix, "PORT": str(options.port)}
        tell("make demo, until both robots have an episode on the dashboard")
        with (Path(scratch) / "demo.log").open("w+") as log:
            begun_s = time.monotonic()
            make = subprocess.Popen(["make", "demo"], cwd=checkout, env=environment, stdout=log, stderr=log)
            try:
                yield wait_for_episodes(checkout, make, begun_s, log)
            finally:
                make.terminate()
                make.wait(30)
                clean = ["make", "clean"]
                done = subprocess.run(clean, cwd=checkout, env=environment, stdout=log, stderr=log, check=False)
                if done.returncode:
                    raise BenchError(f"make clean in {checkout}: {tail(log)}")


def copy(target: Path) -> Path:
    """What git would give: tracked files and new ones that it does not ignore, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (REPO / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, target / name, follow_symlinks=False)
    return target


def wait_for_episodes(
    checkout: Path, make: subprocess.Popen[bytes], begun_s: float, log: Any
) -> tuple[DemoApi, dict[str, float]]:
    first_s: dict[str, float] = {}

    def serving() -> bool:
        failed(make, log)
        return DemoApi.runs(checkout)

    def complete() -> bool:
        failed(make, log)
        for episode in api.episodes():
            first_s.setdefault(episode["robot_id"], time.monotonic() - begun_s)
        return all(robot in first_s for robot in ROBOTS)

    wait_until(serving, "the demo's server", FIRST_EPISODE_S, every_s=0.25)
    api = DemoApi.log_in(checkout)
    wait_until(complete, "an episode of each robot", FIRST_EPISODE_S, every_s=0.25)
    make.wait(FIRST_EPISODE_S)
    return api, first_s


def failed(make: subprocess.Popen[bytes], log: Any) -> None:
    if make.poll():
        raise BenchError(f"make demo ended with {make.returncode}: {tail(log)}")
