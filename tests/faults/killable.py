"""The server's programs as processes that a test may kill and start again: API, worker and the embedded PostgreSQL."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import asyncpg
import httpx
import psutil
import yaml

from lefleet_server import cluster

START_S = 180.0
"""A start on a machine that has other things to do, with its wait for a database that recovers."""


class Program:
    """`lefleet-server <words>`, started by start(). `ready` says whether it does its work."""

    def __init__(
        self,
        words: list[str],
        config: Path,
        log: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.words, self.config, self.log, self._ready = words, config, log, ready
        self._environment = environment
        self.program = ["-m", "lefleet_server"]
        """What Python runs, before the words."""
        self.before: list[str] = []
        """What starts Python, and becomes it."""
        self.kind = words[0]
        self.process: subprocess.Popen[bytes] | None = None
        self.worked = False
        """Whether it was seen to be ready since its last start."""
        self.ended: Counter[str] = Counter()
        """How often it ended by itself: `at work`, or `at its start`, which it may where the database is away then."""

    def start(self) -> None:
        self.worked = False
        command = [*self.before, sys.executable, *self.program, *self.words, "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=os.environ | self._environment, stdout=log, stderr=log)

    def wait_ready(self) -> None:
        """Raises TimeoutError with the end of its log."""
        until_s = time.monotonic() + START_S
        while not self._ready():
            self.revive()
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self.words}: not ready within {START_S:g} s\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)
        self.worked = True

    def revive(self) -> None:
        """What systemd and Docker do."""
        assert self.process
        if self.process.poll() is not None:
            self.ended["at work" if self.worked else "at its start"] += 1
            time.sleep(0.5)
            self.start()
        self.worked = self.worked or self._ready()

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        """As a person or systemd does it; nothing where it was never started."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)


class Postgres(Program):
    """Killed as a whole, as a machine that fails does it: no part of it has time to tidy up."""

    def __init__(self, config: Path, log: Path) -> None:
        super().__init__(["postgres"], config, log, self._answers)
        self._folder = Path(yaml.safe_load(config.read_text())["postgres_dir"])

    def ask(self, query: str, database: str = cluster.DATABASE) -> list[asyncpg.Record]:
        """The rows, over a connection of its own. Raises OSError, asyncpg.PostgresError."""

        async def main() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(**self.arguments() | {"database": database}, timeout=10)
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()

        return asyncio.run(main())

    def arguments(self) -> dict[str, Any]:
        """How to connect, for asyncpg."""
        return cluster.read(self._folder).connection_arguments()

    def _answers(self) -> bool:
        try:
            return bool(self.ask("SELECT 1", "postgres"))
        except (OSError, asyncpg.PostgresError):
            return False

    def kill(self) -> None:
        assert self.process
        parts = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for part in parts:
            try:
                part.kill()
            except psutil.NoSuchProcess:
                continue  # a backend whose client had just gone
        self.process.wait(30)
        # Whose memory they share cannot be started anew before they are gone.
        psutil.wait_procs(parts[1:], 30)


def command(config: Path, *words: str, environment: Mapping[str, str] = MappingProxyType({})) -> str:
    """What a command of the server's prints; its exit status must be 0."""
    line = [sys.executable, "-m", "lefleet_server", *words, "--config", str(config)]
    done = subprocess.run(line, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: exit status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def answers(url: str) -> bool:
    """Whether the program at this address says that all it needs is there."""
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def left_running(folder: Path) -> list[str]:
    """The command lines of whatever was started on this folder, children of those that were killed included."""
    lines = [
        " ".join(process.info["cmdline"] or ())
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
    ]
    return [line for line in lines if f"{folder}/" in line]


def wait_for(condition: Callable[[], bool], most_s: float, what: str, look_s: float = 0.2) -> None:
    """Raises TimeoutError, which names what did not come."""
    until_s = time.monotonic() + most_s
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError(f"{what}: not within {most_s:g} s")
        time.sleep(look_s)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
