"""A real streaming replica of a PostgreSQL on this machine."""

import asyncio
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from lefleet_server.db import UNREACHABLE


class Standby:
    """A hot standby made by pg_basebackup, on a socket in its folder, which nobody else should use.

    `primary`: asyncpg's arguments for a cluster that runs on this machine. `options`: words for `postgres`.
    """

    def __init__(self, folder: Path, primary: dict, options: Sequence[str] = ()) -> None:
        self.folder, self.primary, self._options = folder, primary, options
        data = asyncio.run(asked(primary | {"database": "postgres"}, "SHOW data_directory"))
        pid = Path(data, "postmaster.pid").read_text().splitlines()[0]
        self.programs = Path(f"/proc/{pid}/exe").resolve().parent
        self.user = pwd.getpwuid(Path(data).stat().st_uid).pw_name
        self.process: subprocess.Popen | None = None
        folder.chmod(0o700)
        os.chown(folder, *pwd.getpwnam(self.user)[2:4])
        self._call(
            "pg_basebackup", "-D", folder / "data", "-h", primary["host"], "-U", primary["user"], "-R", "-c", "fast"
        ).wait()

    @property
    def arguments(self) -> dict:
        return self.primary | {"host": str(self.folder), "database": "postgres"}

    def start(self) -> None:
        own = "-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses="
        self.process = self._call("postgres", *own, *self._options)
        deadline = time.monotonic() + 60
        while not asyncio.run(answers(self.arguments)):
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

    def end(self, how: signal.Signals = signal.SIGQUIT) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def _call(self, program: str, *arguments: object) -> subprocess.Popen:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self.programs / program), *map(str, arguments)],
                stdout=log, stderr=log, cwd="/", user=self.user if os.geteuid() == 0 else None,
                env={"PGPASSWORD": self.primary["password"], "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            )  # fmt: skip


async def asked(arguments: dict, query: str) -> object:
    connection = await asyncpg.connect(**arguments)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def answers(arguments: dict) -> bool:
    try:
        return await asked(arguments, "SELECT pg_is_in_recovery()")
    except UNREACHABLE:
        return False
