"""Kill API processes, workers and PostgreSQL at random moments of many uploads; nothing that has a receipt may be lost.

    python tests/faults/server_soak.py --uploads 10000 --seed 1 --json server-soak.json
    python tests/faults/server_soak.py --uploads 300 --store s3     # as on several hosts; the S3 server is killed too

The test suite does some of it. It checks by assertion and returns what it saw, for the report.
"""

import argparse
import hashlib
import itertools
import json
import logging
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import structlog
from killable import Program, wait_for
from one_host import House
from robot_uploads import Robot
from several_hosts import Hosts
from small_episodes import write_episode

from lefleet_agent.spooled import SpooledEpisode

ROBOTS = 4
A_FILMED_ONE_OF = 10
SETTLE_S = 7200.0

STORES: dict[str, Callable[[Path], House]] = {"folder": House, "s3": Hosts}

type Tell = Callable[[int, str], None]
"""Hears how many uploads have begun, and what happens now."""


def soak(house: House, uploads: int, seed: int, every: int, tell: Tell = lambda *_: None) -> dict[str, Any]:
    """A kill after `every` uploads. Returns what was seen.

    The house's folder must be open to everyone: PostgreSQL may run as a user of its own.
    """
    with house.running(), house.admin() as admin:
        robots = [house.robot(admin, f"robot-{number}") for number in range(ROBOTS)]
        began_s = time.monotonic()
        kills = upload_under_kills(house, robots, uploads, seed, every, tell)
        took_s = time.monotonic() - began_s
        for program in house.all:
            program.wait_ready()
        tell(uploads, "waiting for the jobs")
        wait_for(house.no_job_waits, SETTLE_S, "the workers have done all jobs")
        tell(uploads, "comparing")
        seen = check(house, admin, robots, uploads)
        for robot in robots:
            robot.close()
    ended = {kind: sum((each.ended for each in some), Counter()) for kind, some in house.programs.items()}
    alone = {f"{kind} {when}": count for kind, found in ended.items() for when, count in found.items()}
    return {"seconds": round(took_s), "kills": dict(kills), "ended by themselves": alone, **seen}


def upload_under_kills(
    house: House, robots: list[Robot], uploads: int, seed: int, every: int, tell: Tell
) -> Counter[str]:
    """Hands out `every` episodes, kills a program while some of them wait, and so on; how often which."""
    chance, noise = random.Random(seed), np.random.default_rng(seed)  # noqa: S311 - moments, not secrets
    threads = [threading.Thread(target=robot.run, name=robot.robot_id, daemon=True) for robot in robots]
    for thread in threads:
        thread.start()

    def waiting() -> int:
        house.revive()
        return sum(robot.spool.stats().waiting_episodes for robot in robots)

    kills: Counter[str] = Counter()
    turns: list[str] = []
    for numbers in itertools.batched(range(uploads), every):
        # Kills that follow faster than programs start would find nobody at work, and uploads without kills later.
        wait_for(lambda: waiting() <= every + len(robots), SETTLE_S, "robots go on after a kill")
        if not turns:
            turns = chance.sample(sorted(house.programs), len(house.programs))
        kind = turns.pop()
        program = chance.choice(house.programs[kind])
        program.wait_ready()
        add_episodes(robots, numbers, noise)
        left = chance.randint(2, max(2, waiting()))
        wait_for(lambda left=left: waiting() <= left, SETTLE_S, "robots upload", look_s=0.02)
        kill_one(program, chance)
        kills[kind] += 1
        tell(numbers[-1] + 1, f"{kills.total()} kills")
    for robot in robots:
        robot.finish()

    def all_done() -> bool:
        house.revive()
        return not any(thread.is_alive() for thread in threads)

    wait_for(all_done, SETTLE_S, "every robot has its receipts")
    return kills


def add_episodes(robots: list[Robot], numbers: Iterable[int], noise: np.random.Generator) -> None:
    """Hands them out in turn, all at once: to write them takes longer than a fast machine takes to upload them."""
    taken = [(robots[number % len(robots)], number % A_FILMED_ONE_OF == 0) for number in numbers]
    written = [write_episode(robot.spool.folder, robot.robot_id, noise, camera=camera) for robot, camera in taken]
    for (robot, _), path in zip(taken, written, strict=True):
        robot.add(path)


def kill_one(program: Program, chance: random.Random) -> None:
    """It is down for a moment, and others go on while it starts."""
    program.kill()
    time.sleep(chance.uniform(0, 0.5))
    program.start()


def check(house: House, admin: httpx.Client, robots: list[Robot], uploads: int) -> dict[str, Any]:
    """Compares receipts, rows and files; asserts that all are there once, and that fsck agrees."""
    told: Counter[str] = sum((robot.seen for robot in robots), Counter())
    wrong = {"answered 401", "answered 403", "answered 500", "pieces refused"} & told.keys()
    assert not wrong, f"no kill is a reason for {wrong}: {told}"
    assert not sum(robot.lost() for robot in robots), "the server lacks an episode that it gave a receipt for"
    delivered = [episode for robot in robots for episode in robot.spool.acknowledged()]
    assert len(delivered) == uploads, [robot.spool.stats() for robot in robots]
    previews = check_rows(house.postgres.ask, delivered)
    fsck = check_files(house, admin, delivered)
    pieces = told.pop("pieces sent")
    return {
        "receipts": len(delivered),
        "pieces sent": pieces,
        "sent away or cut off, and tried again": dict(told),
        "previews": previews,
        "fsck": fsck,
    }


def check_rows(ask: Callable[[str], list[Any]], delivered: list[SpooledEpisode]) -> int:
    """Each receipt is one row, and each job was done; how many previews there are."""
    receipts = {(each.episode_id, each.sha256, str((each.receipt or {})["receipt_id"])) for each in delivered}
    rows = [tuple(row) for row in ask("SELECT id, sha256, receipt_id FROM episodes")]
    assert len(rows) == len(receipts)
    assert set(rows) == receipts
    dead = [tuple(row) for row in ask("SELECT queue, episode_id, state, reason FROM jobs")]
    assert not dead, f"jobs that were given up: {dead}"
    found = Counter(row["state"] for row in ask("SELECT state FROM episode_analysis"))
    assert found == {"analysed": len(delivered)}, f"all files are valid: {found}"
    filmed = -(-len(delivered) // A_FILMED_ONE_OF)
    previews = int(ask("SELECT count(*) FROM episode_previews WHERE sha256 IS NOT NULL")[0][0])
    assert previews == 3 * filmed, f"{previews} previews of {filmed} filmed episodes: video, first and last picture"
    return previews


def check_files(house: House, admin: httpx.Client, delivered: list[SpooledEpisode]) -> dict[str, Any]:
    """Each file as a person downloads it, and what fsck says of all of them."""
    for episode in delivered:
        data = admin.get(f"/api/v1/episodes/{episode.episode_id}/file").raise_for_status().content
        assert hashlib.sha256(data).hexdigest() == episode.sha256, f"{episode.episode_id} has other bytes"
    house.age_files()
    fsck: dict[str, Any] = json.loads(house.command("fsck", "--deep", "--json"))
    assert fsck["clean"], fsck
    return fsck


def main() -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--uploads", type=int, default=150)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--every", type=int, default=16, help="uploads from one kill to the next")
    options.add_argument("--store", choices=STORES, default="folder", help="s3: each program as on a host of its own")
    options.add_argument("--json", type=Path, help="write what was seen here")
    given = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with tempfile.TemporaryDirectory(prefix="lefleet-soak-", dir="/var/tmp") as folder, Progress(*columns) as progress:
        Path(folder).chmod(0o755)
        task = progress.add_task("starting", total=given.uploads)

        def tell(begun: int, words: str) -> None:
            progress.update(task, completed=begun, description=words)

        seen = soak(STORES[given.store](Path(folder)), given.uploads, given.seed, given.every, tell)
    print(json.dumps(seen, indent=1))
    if given.json:
        given.json.write_text(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main()
