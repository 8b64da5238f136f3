"""Kill API processes, workers and PostgreSQL at random moments of many uploads; nothing that has a receipt may be lost.

    python tests/faults/server_soak.py --uploads 10000 --seed 1 --json server-soak.json

The test suite does a hundred and fifty. It checks by assertion and returns what it saw, for the report.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import structlog
import yaml
from killable import Postgres, Program, answers, command, free_port, left_running, wait_for
from robot_uploads import Robot
from small_episodes import write_episode

from lefleet_agent.spooled import SpooledEpisode

ROBOTS = 4
A_FILMED_ONE_OF = 10
MOMENT_S = 1.5
"""A kill comes within so much after its episodes were handed over: about as long as they take."""
SETTLE_S = 7200.0

type Tell = Callable[[int, str], None]
"""Hears how many uploads have begun, and what happens now."""


class House:
    """PostgreSQL, two API processes and two workers on one folder of files, and robots that upload."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self.folder, self._ports = folder, [free_port() for _ in range(4)]
        self._environment = environment
        """Of all but PostgreSQL, which takes nothing of its caller's."""
        self.configs = [self._config(number) for number in range(2)]
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports[:2]]
        self.postgres = Postgres(self.configs[0], folder / "postgres.log")
        self.programs: dict[str, list[Program]] = {"postgres": [self.postgres], "serve": [], "worker": []}
        for number, config in enumerate(self.configs):
            log = folder / f"serve-{number}.log"
            ready = partial(answers, f"{self.urls[number]}/readyz")
            self.programs["serve"].append(Program(["serve"], config, log, ready, environment))
            port = self._ports[2 + number]
            words = ["worker", "--metrics-port", str(port)]
            ready = partial(answers, f"http://127.0.0.1:{port}/metrics")
            log = folder / f"worker-{number}.log"
            self.programs["worker"].append(Program(words, config, log, ready, environment))

    @property
    def all(self) -> list[Program]:
        return [program for programs in self.programs.values() for program in programs]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """All of it, until the block ends; then nothing of it may be left."""
        self.postgres.start()
        try:
            self.postgres.wait_ready()
            self.command("migrate")
            for program in self.all[1:]:
                program.start()
            for program in self.all[1:]:
                program.wait_ready()
            yield
        finally:
            for program in reversed(self.all):
                program.stop()
            self.command("postgres", "--erase")
        wait_for(lambda: not left_running(self.folder), 30, "children of killed programs end")

    def command(self, *words: str) -> str:
        return command(self.configs[0], *words, environment=self._environment)

    @contextlib.contextmanager
    def admin(self) -> Iterator[httpx.Client]:
        """A person who is logged in, at the first API process."""
        self.command("users", "add", "soak", "--role", "admin")
        with httpx.Client(base_url=self.urls[0], timeout=60) as client:
            self.log_in(client)
            yield client

    def log_in(self, client: httpx.Client) -> None:
        url = json.loads(self.command("login-link", "--user", "soak", "--json"))["url"]
        client.post("/api/v1/login", json={"code": url.partition("code=")[2]}).raise_for_status()

    def robot(self, admin: httpx.Client, robot_id: str) -> Robot:
        answer = admin.post(f"/api/v1/robots/{robot_id}/enrolment-code").raise_for_status()
        body = {"code": answer.json()["code"], "robot_id": robot_id, "agent_version": "0.1.0", "hw": "a soak"}
        token = admin.post("/api/v1/robots/enrol", json=body).raise_for_status().json()["token"]
        return Robot(robot_id, token, self.urls, self.folder / robot_id)

    def revive(self) -> None:
        for program in self.all:
            program.revive()

    def no_job_waits(self) -> bool:
        self.revive()
        return not self.postgres.ask("SELECT 1 FROM jobs WHERE state <> 'dead' LIMIT 1")

    def _config(self, number: int) -> Path:
        config = self.folder / f"server-{number}.yml"
        settings = {
            "state_dir": str(self.folder / "state"),
            "postgres_dir": str(self.folder / "postgres"),
            "port": self._ports[number],
            "min_free_bytes": 0,
            "job_heartbeat_timeout_s": 3,
        }
        config.write_text(yaml.safe_dump(settings))
        return config


def soak(uploads: int, folder: Path, seed: int, every: int, tell: Tell = lambda *_: None) -> dict[str, Any]:
    """A kill after `every` uploads. Returns what was seen.

    `folder` must be open to everyone: PostgreSQL may run as a user of its own.
    """
    house = House(folder)
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
    """Hands out episodes, `every` so many kills a program at a random moment; how often which."""
    chance, noise = random.Random(seed), np.random.default_rng(seed)  # noqa: S311 - moments, not secrets
    threads = [threading.Thread(target=robot.run, name=robot.robot_id, daemon=True) for robot in robots]
    for thread in threads:
        thread.start()

    def few_wait() -> bool:
        house.revive()
        return sum(robot.spool.stats().waiting_episodes for robot in robots) <= every + len(robots)

    kills: Counter[str] = Counter()
    turns: list[str] = []
    for number in range(uploads):
        robot = robots[number % len(robots)]
        robot.add(write_episode(robot.spool.folder, robot.robot_id, noise, camera=number % A_FILMED_ONE_OF == 0))
        if number % every == every - 1:
            # Kills that follow faster than programs start would find nobody at work, and uploads without kills later.
            wait_for(few_wait, SETTLE_S, "robots go on after a kill")
            if not turns:
                turns = chance.sample(sorted(house.programs), len(house.programs))
            kind = turns.pop()
            kill_one(chance.choice(house.programs[kind]), house, chance)
            kills[kind] += 1
            tell(number + 1, f"{kills.total()} kills")
    for robot in robots:
        robot.finish()

    def all_done() -> bool:
        house.revive()
        return not any(thread.is_alive() for thread in threads)

    wait_for(all_done, SETTLE_S, "every robot has its receipts")
    return kills


def kill_one(program: Program, house: House, chance: random.Random) -> None:
    """One that works, at a random moment. It is down for a moment, and others go on while it starts."""
    program.wait_ready()
    house.revive()
    time.sleep(chance.uniform(0, MOMENT_S))
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
    age(house.folder / "state" / "blobs")
    fsck: dict[str, Any] = json.loads(house.command("fsck", "--deep", "--json"))
    assert fsck["clean"], fsck
    return fsck


def age(folder: Path) -> None:
    """Makes every file look old: fsck leaves young ones alone, which may be on their way."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))


def main() -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--uploads", type=int, default=150)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--every", type=int, default=16, help="uploads from one kill to the next")
    options.add_argument("--json", type=Path, help="write what was seen here")
    given = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with tempfile.TemporaryDirectory(prefix="lefleet-soak-", dir="/var/tmp") as folder, Progress(*columns) as progress:
        Path(folder).chmod(0o755)
        task = progress.add_task("starting", total=given.uploads)

        def tell(begun: int, words: str) -> None:
            progress.update(task, completed=begun, description=words)

        seen = soak(given.uploads, Path(folder), given.seed, given.every, tell)
    print(json.dumps(seen, indent=1))
    if given.json:
        given.json.write_text(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main()
