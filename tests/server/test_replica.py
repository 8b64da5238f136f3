"""Long readings on a real streaming replica, which never shows less than what is committed."""

import asyncio
import os
import pwd
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from sqlalchemy import text

from lefleet_server import replica
from lefleet_server.config import Settings
from lefleet_server.db import UNREACHABLE, Database

ON_REPLICA = text("SELECT pg_is_in_recovery()")


class Standby:
    """A hot standby of the tests' cluster, made by pg_basebackup, on a socket of its own."""

    def __init__(self, folder: Path, primary: dict) -> None:
        self.folder, self.primary = folder, primary
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
        self.process = self._call("postgres", "-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses=")
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


@pytest.fixture(scope="module")
def standby(postgres: dict) -> Iterator[Standby]:
    with tempfile.TemporaryDirectory(prefix="lefleet-test-") as folder:
        made = Standby(Path(folder), postgres)
        made.start()
        yield made
        made.end()


@pytest.fixture
def running(standby: Standby) -> Standby:
    if standby.process is None:
        standby.start()
    return standby


@pytest.fixture
def settings(server_settings: dict, postgres: dict, running: Standby) -> Settings:
    """With the replica of this test's database."""
    there = server_settings["database_url"].replace(
        quote(postgres["host"], safe=""), quote(str(running.folder), safe="")
    )
    return Settings(**server_settings, database_replica_url=there)


@pytest.fixture(autouse=True)
def asked_again_soon(monkeypatch):
    monkeypatch.setattr(replica, "_PAUSE_S", 0.2)


@pytest.fixture
async def db(settings: Settings):
    db = Database(settings)
    yield db
    await db.close()


async def is_on_replica(db: Database) -> bool:
    async with db.reading() as session:
        return bool(await session.scalar(ON_REPLICA))


async def until_on_replica(db: Database) -> None:
    async with asyncio.timeout(60):
        while not await is_on_replica(db):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)


async def test_each_reading_has_all_that_was_committed_before_it(db):
    await until_on_replica(db)  # it has replayed the making of this test's database
    async with db.transaction() as session:
        await session.execute(text("CREATE TABLE counted (n int)"))
    by_replica = 0
    for number in range(200):
        async with db.transaction() as session:
            await session.execute(text("INSERT INTO counted VALUES (:n)"), {"n": number})
        async with db.reading() as session:
            assert await session.scalar(text("SELECT max(n) FROM counted")) == number
            by_replica += await session.scalar(ON_REPLICA)
    assert by_replica > 100


async def test_while_it_lags_the_primary_answers(db, running):
    await until_on_replica(db)
    await asked(running.arguments, "SELECT pg_wal_replay_pause()")
    try:
        async with db.transaction() as session:
            await session.execute(text("CREATE TABLE behind (n int)"))
        async with db.reading() as session:
            assert await session.scalar(text("SELECT count(*) FROM behind")) == 0
            assert not await session.scalar(ON_REPLICA)
    finally:
        await asked(running.arguments, "SELECT pg_wal_replay_resume()")
    await until_on_replica(db)


async def test_while_it_is_dead_the_primary_answers_and_then_it_is_used_again(db, running):
    await until_on_replica(db)
    await asyncio.to_thread(running.end, signal.SIGKILL)
    for _ in range(3):
        assert not await is_on_replica(db)
    await asyncio.to_thread(running.start)
    await until_on_replica(db)


async def test_the_primary_given_as_replica_is_not_taken_for_one(server_settings):
    db = Database(Settings(**server_settings, database_replica_url=server_settings["database_url"]))
    async with db.reading() as session:
        assert await session.scalar(text("SELECT 1")) == 1
    assert db._replica._paused_until_s > time.monotonic()
    await db.close()


@pytest.mark.parametrize("path", ["/api/v1/episodes", "/api/v1/comparison", "/api/v1/storage"])
async def test_long_readings_of_the_api_go_there(path, services, operator, monkeypatch):
    await until_on_replica(services.db)
    used = []
    enter = replica.Replica.enter

    async def counting(self, *arguments):
        session = await enter(self, *arguments)
        used.append(session is not None)
        return session

    monkeypatch.setattr(replica.Replica, "enter", counting)
    assert (await operator.get(path)).status_code == 200
    assert used == [True]
