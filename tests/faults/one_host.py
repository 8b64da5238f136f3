"""The server's programs on one machine that a test may kill: PostgreSQL, two API processes and two workers."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import yaml
from killable import Postgres, Program, answers, command, free_port, left_running, wait_for
from robot_uploads import Robot

EACH = 2
"""So many API processes, and so many workers."""


class House:
    """All of it on one folder of files, and robots that upload."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self.folder = folder
        self._environment = environment
        """Of all but PostgreSQL, which takes nothing of its caller's."""
        self.ports = {kind: [free_port() for _ in range(EACH)] for kind in ("serve", "worker")}
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports["serve"]]
        self.entries = self.urls
        """Where robots and people come in."""
        self.postgres = self._make_postgres()
        self.programs: dict[str, list[Program]] = {
            "postgres": [self.postgres],
            "serve": [self._serve(number) for number in range(EACH)],
            "worker": [self._worker(number) for number in range(EACH)],
        }

    @property
    def all(self) -> list[Program]:
        return [program for programs in self.programs.values() for program in programs]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """All of it, until the block ends; then nothing of it may be left."""
        self.postgres.start()
        try:
            self.postgres.wait_ready()
            self.make_database()
            for program in self.all[1:]:
                program.start()
            for program in self.all[1:]:
                program.wait_ready()
            with self.entrance():
                yield
        finally:
            for program in reversed(self.all):
                program.stop()
            command(self.postgres.config, "postgres", "--erase")
        wait_for(lambda: not left_running(self.folder), 30, "children of killed programs end")

    def entrance(self) -> contextlib.AbstractContextManager[object]:
        """What stands before the API processes."""
        return contextlib.nullcontext()

    def make_database(self) -> None:
        self.command("migrate")

    def command(self, *words: str) -> str:
        """What one prints that is given where the first API process runs."""
        return command(self.programs["serve"][0].config, *words, environment=self._environment)

    @contextlib.contextmanager
    def admin(self) -> Iterator[httpx.Client]:
        """A person who is logged in."""
        self.command("users", "add", "soak", "--role", "admin")
        with httpx.Client(base_url=self.entries[0], timeout=60) as client:
            self.log_in(client)
            yield client

    def log_in(self, client: httpx.Client) -> None:
        url = json.loads(self.command("login-link", "--user", "soak", "--json"))["url"]
        client.post("/api/v1/login", json={"code": url.partition("code=")[2]}).raise_for_status()

    def robot(self, admin: httpx.Client, robot_id: str) -> Robot:
        return Robot(robot_id, self.enrol(admin, robot_id), self.entries, self.folder / robot_id)

    def enrol(self, admin: httpx.Client, robot_id: str) -> str:
        """The new robot's credential."""
        answer = admin.post(f"/api/v1/robots/{robot_id}/enrolment-code").raise_for_status()
        body = {"code": answer.json()["code"], "robot_id": robot_id, "agent_version": "0.1.0", "hw": "a soak"}
        return str(admin.post("/api/v1/robots/enrol", json=body).raise_for_status().json()["token"])

    def revive(self) -> None:
        for program in self.all:
            program.revive()

    def no_job_waits(self) -> bool:
        self.revive()
        return not self.postgres.ask("SELECT 1 FROM jobs WHERE state <> 'dead' LIMIT 1")

    def age_files(self) -> None:
        """Makes every file look old: fsck leaves young ones alone, which may be on their way."""
        for path in (self.folder / "state" / "blobs").rglob("*"):
            if path.is_file():
                os.utime(path, (1, 1))

    def _make_postgres(self) -> Postgres:
        return Postgres(self._write("postgres", {}), self.folder / "postgres.log")

    def _serve(self, number: int) -> Program:
        ready = partial(answers, f"{self.urls[number]}/readyz")
        return self._program(["serve"], f"serve-{number}", ready, {"port": self.ports["serve"][number]})

    def _worker(self, number: int) -> Program:
        port = self.ports["worker"][number]
        ready = partial(answers, f"http://127.0.0.1:{port}/metrics")
        return self._program(["worker", "--metrics-port", str(port)], f"worker-{number}", ready, {})

    def _program(self, words: list[str], name: str, ready: Any, settings: dict[str, Any]) -> Program:
        config, log = self._write(name, settings), self.folder / f"{name}.log"
        return Program(words, config, log, ready, self._environment)

    def _write(self, name: str, more: dict[str, Any]) -> Path:
        """The settings file of one program."""
        config = self.folder / f"{name}.yml"
        settings = {
            "state_dir": str(self.folder / "state"),
            "postgres_dir": str(self.folder / "postgres"),
            "min_free_bytes": 0,
            "job_heartbeat_timeout_s": 3,
        }
        config.write_text(yaml.safe_dump(settings | more))
        return config
