"""One `lefleet-server serve` in a process of its own, as its users run it, and a database for it."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import yaml
from robot_client import RobotClient
from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import Role
from lefleet_server.config import Settings
from lefleet_server.db import Database
from lefleet_server.robots import service as robots
from lefleet_server.robots.models import RobotStatus

PASSWORD = "a long enough password"
_START_S = 60


class Server:
    """One `lefleet-server serve`, as its users run it."""

    def __init__(self, folder: Path, database_url: str, port: int, **settings: object) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.settings = {
            "state_dir": str(folder / "state"),
            "database_url": database_url,
            "port": port,
            "min_free_bytes": 0,
            "heartbeat_interval_s": 60,  # a robot that spoke once is online for a test, however slow this machine is
            "log_format": "console",
        } | settings
        self.config = folder / "server.yml"
        self.config.write_text(yaml.safe_dump(self.settings))
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        arguments = [sys.executable, "-m", "lefleet_server", "serve", "--config", str(self.config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log)

    def kill(self) -> None:
        """As a machine that fails: no goodbye to anybody."""
        self._process.kill()
        self._process.wait(20)

    def wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while not self._is_ready():
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def add_people(self) -> None:
        for username, role in (("ada", Role.OPERATOR), ("vic", Role.VIEWER), ("root", Role.ADMIN)):
            self.do(partial(accounts.put_user, username=username, role=role, password=PASSWORD, actor="test"))

    def login_link(self, username: str) -> str:
        code = self.do(partial(accounts.create_login_code, username=username, ttl_s=60, actor="test"))
        return f"{self.url}/login?code={code}"

    def enrol(self, robot_id: str, site: str = "") -> RobotClient:
        return RobotClient.enrol(self.url, robot_id, self.enrolment_code(robot_id, site))

    def enrolment_code(self, robot_id: str, site: str = "") -> str:
        return self.do(
            partial(robots.create_enrolment_code, robot_id=robot_id, site=site, ttl_s=60, actor="test"),
        )

    def silence(self, robot_id: str) -> None:
        """As if the robot had said nothing for an hour, without the hour."""

        async def age(session: AsyncSession) -> None:
            hour_ago = func.now() - timedelta(hours=1)
            await session.execute(
                update(RobotStatus).where(RobotStatus.robot_id == robot_id).values(received_at=hour_ago)
            )

        self.do(age)

    def do[R](self, work: Callable[[AsyncSession], Awaitable[R]]) -> R:
        """What the commands do, without the seconds a command takes to start."""

        async def transact() -> R:
            db = Database(Settings(**self.settings))
            try:
                async with db.transaction() as session:
                    return await work(session)
            finally:
                await db.close()

        return on_a_thread(transact())

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).is_success
        except httpx.TransportError:
            return False


def create_database(postgres: dict, name: str) -> None:
    """A migrated one."""

    async def create() -> None:
        connection = await asyncpg.connect(**postgres | {"database": "postgres"})
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE lefleet')
        await connection.close()

    on_a_thread(create())


def on_a_thread[R](work: Coroutine[object, object, R]) -> R:
    """Runs it where no event loop is running yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def free_port() -> int:

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
