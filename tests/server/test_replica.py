"""Long readings on a real streaming replica, which never shows less than what is committed."""

import asyncio
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text

from lefleet_server import replica
from lefleet_server.config import Settings
from lefleet_server.db import Database

ON_REPLICA = text("SELECT pg_is_in_recovery()")


@pytest.fixture(scope="module")
def standby(postgres: dict, standby_module: Any) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="lefleet-test-") as folder:
        made = standby_module.Standby(Path(folder), postgres)
        made.start()
        yield made
        made.end()


@pytest.fixture
def asked(standby_module: Any) -> Callable:
    return standby_module.asked


@pytest.fixture
def running(standby: Any) -> Any:
    if standby.process is None:
        standby.start()
    return standby


@pytest.fixture
def settings(server_settings: dict, postgres: dict, running: Any) -> Settings:
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


async def test_while_it_lags_the_primary_answers(db, running, asked):
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
