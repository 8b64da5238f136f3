"""Migration 0009 beside the release before: it writes while the indexes are built, and what it wrote is taken over."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from lefleet_server import schema
from lefleet_server.config import Settings
from lefleet_server.db import Database

BEFORE = "0008"
_EPISODE = """
INSERT INTO episodes (
    id, robot_id, receipt_id, sha256, bytes, started_at, ended_at, duration_s, frames, frames_dropped, fps, hz_held,
    outcome, interrupted, end_reason, task, policy_repo, policy_commit, policy_digest, cameras, meta, image_index
) VALUES (
    $1, 'robot-1', $1, $2, 1, now(), now(), 1, 1, 0, 30, 30, 'success', false, '', '', '', '', '', '[]', '{}', '{}'
)
"""
_ANALYSIS = (
    "INSERT INTO episode_analysis (episode_id, version, state, flags, statistics) VALUES ($1, 1, $2, '[]', '{}')"
)
_BUILDING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND datname = $1"
_INDEXES = """
SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = 'episodes'::regclass
"""


class PreviousRelease:
    """Writes episodes and analyses as a server of revision 0005 does, one in three quarantined."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.quarantined: dict[str, bool] = {}

    async def write(self) -> None:
        episode_id = uuid.uuid4().hex
        bad = len(self.quarantined) % 3 == 0
        async with self._connection.transaction():
            await self._connection.execute(_EPISODE, episode_id, hashlib.sha256(episode_id.encode()).hexdigest())
        await self._connection.execute(_ANALYSIS, episode_id, "quarantined" if bad else "analysed")
        self.quarantined[episode_id] = bad

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """In the background, each write to its end; a write that fails fails the test."""
        enough = asyncio.Event()

        async def write_on() -> None:
            while not enough.is_set():
                await self.write()
                await asyncio.sleep(0.005)

        task = asyncio.create_task(write_on())
        try:
            yield
        finally:
            enough.set()
            await task

    async def wrote_more(self, episodes: int) -> None:
        wanted = len(self.quarantined) + episodes
        await until(lambda: len(self.quarantined) >= wanted)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what it waits for happens in the database
            await asyncio.sleep(0.01)


@pytest.fixture
async def previous(db: Database, connect: Callable) -> PreviousRelease:
    """The release before, with a hundred episodes written."""
    connection = await connect()
    await connection.execute("INSERT INTO robots (id, hw, agent_version) VALUES ('robot-1', '', '')")
    made = PreviousRelease(connection)
    for _ in range(100):
        await made.write()
    return made


async def is_building(connection: asyncpg.Connection) -> int:
    """Waits until an index is being built; the process that does it."""
    name = await connection.fetchval("SELECT current_database()")
    async with asyncio.timeout(60):
        while not (pid := await connection.fetchval(_BUILDING, name)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return pid


async def is_as_it_should_be(db: Database, connection: asyncpg.Connection, previous: PreviousRelease) -> None:
    assert await schema.current(db.engine) == schema.head()
    stored = dict(await connection.fetch("SELECT id, quarantined FROM episodes"))
    assert stored == previous.quarantined
    indexes = dict(await connection.fetch(_INDEXES))
    assert all(indexes.values()) and {"ix_episodes_labelled", "ix_episodes_robot_policy_started"} <= indexes.keys()


async def test_the_release_before_writes_while_the_indexes_are_built(db, previous, connect):
    old, watch = await connect(), await connect()
    async with previous.writing():
        await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM robots")
        migration = asyncio.create_task(schema.migrate(db.engine))
        await is_building(watch)  # and cannot end while `old` is open
        await previous.wrote_more(50)
        assert not migration.done()
        await old.execute("COMMIT")
        assert await migration == (BEFORE, schema.head())
        await previous.wrote_more(50)
    await is_as_it_should_be(db, watch, previous)


async def test_cut_off_in_the_middle_it_is_run_again(db, previous, connect):
    old, watch = await connect(), await connect()
    await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM robots")
    migration = asyncio.create_task(schema.migrate(db.engine))
    await watch.execute("SELECT pg_terminate_backend($1)", await is_building(watch))
    with pytest.raises(SQLAlchemyError):
        await migration
    await old.execute("COMMIT")
    assert await schema.current(db.engine) == BEFORE
    assert not all(dict(await watch.fetch(_INDEXES)).values())
    await previous.write()
    await schema.migrate(db.engine)
    await is_as_it_should_be(db, watch, previous)


async def test_behind_a_lock_it_gives_up_and_changes_nothing(db, previous, connect):
    holder, watch = await connect(), await connect()
    await holder.execute("BEGIN; LOCK TABLE episodes IN SHARE MODE")
    with pytest.raises(DBAPIError, match="lock timeout"):
        await schema.migrate(db.engine)
    await holder.execute("COMMIT")
    columns = await watch.fetch("SELECT attname FROM pg_attribute WHERE attrelid = 'episodes'::regclass")
    assert "quarantined" not in {column["attname"] for column in columns}
    await schema.migrate(db.engine)
    await is_as_it_should_be(db, watch, previous)


async def test_two_migrations_at_once_are_one(db, previous, connect, database_url):
    others = [Database(Settings(state_dir=Path("unused"), database_url=database_url)) for _ in range(2)]
    try:
        told = await asyncio.gather(*(schema.migrate(each.engine) for each in (db, *others)))
    finally:
        for other in others:
            await other.close()
    assert sorted(before for before, _ in told) == [BEFORE, schema.head(), schema.head()]
    await is_as_it_should_be(db, await connect(), previous)


async def test_a_new_finding_and_its_end_reach_the_list(db, previous, connect):
    await schema.migrate(db.engine)
    connection = await connect()
    episode_id = next(id_ for id_, bad in previous.quarantined.items() if bad)
    change = "UPDATE episode_analysis SET state = $2 WHERE episode_id = $1"
    for state in ("analysed", "quarantined", "quarantined", "analysed"):
        await connection.execute(change, episode_id, state)
        found = await connection.fetchval("SELECT quarantined FROM episodes WHERE id = $1", episode_id)
        assert found is (state == "quarantined")
    await connection.execute(change, episode_id, "quarantined")
    await connection.execute("DELETE FROM episode_analysis WHERE episode_id = $1", episode_id)
    assert not await connection.fetchval("SELECT quarantined FROM episodes WHERE id = $1", episode_id)
