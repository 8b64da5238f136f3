"""Migration 0015 beside the release before: episodes that waited, and those that come or are analysed meanwhile."""

import asyncio
import importlib
from collections.abc import Callable

import pytest
from sqlalchemy.exc import DBAPIError

from lefleet_server import schema
from lefleet_server.db import Database

BEFORE, EPISODES = "0014", 12_000
MIGRATION = importlib.import_module("lefleet_server.migrations.versions.0015_episodes_that_wait_for_their_analysis")
_EPISODES = """
INSERT INTO episodes (
    id, robot_id, receipt_id, sha256, bytes, started_at, ended_at, duration_s, frames, frames_dropped, fps, hz_held,
    outcome, interrupted, end_reason, task, policy_repo, policy_commit, policy_digest, cameras, meta, image_index
) SELECT md5(n::text), 'robot-1', n, n, 1, now() - n * interval '1 minute', now(), 1, 1, 0, 30, 30,
    'success', false, '', '', '', '', '', '[]', '{}', '{}' FROM generate_series($1::int, $2::int) AS n
"""
_ANALYSES = """
INSERT INTO episode_analysis (episode_id, version, state, flags, statistics)
SELECT md5(n::text), 1, 'analysed', '[]', '{}' FROM generate_series($1::int, $2::int) AS n ON CONFLICT DO NOTHING
"""
_WRONG = """
WITH wait AS (
    SELECT id, started_at FROM episodes WHERE NOT EXISTS (SELECT FROM episode_analysis WHERE episode_id = id)
), kept AS (SELECT episode_id, started_at FROM pending_episodes)
(TABLE wait EXCEPT TABLE kept) UNION ALL (TABLE kept EXCEPT TABLE wait)
"""


@pytest.fixture
async def db(db: Database, connect: Callable) -> Database:
    """With episodes, of which one in two waits."""
    connection = await connect()
    await connection.execute("INSERT INTO robots (id, hw, agent_version) VALUES ('robot-1', '', '')")
    await connection.execute(_EPISODES, 1, EPISODES)
    await connection.execute(_ANALYSES, 1, EPISODES // 2)
    return db


async def test_what_arrives_and_is_analysed_meanwhile_is_as_it_is(db, connect, monkeypatch):
    monkeypatch.setattr(MIGRATION, "_AT_ONCE", 100)
    server, worker, look = await connect(), await connect(), await connect()
    written = {"episodes": 0, "analyses": 0}
    done = asyncio.Event()

    async def arrive() -> None:
        n = EPISODES
        while not done.is_set():
            n += 1
            await server.execute(_EPISODES, n, n)
            written["episodes"] += 1

    async def analyse() -> None:
        n = EPISODES // 2
        while not done.is_set():
            n += 1
            await worker.execute(_ANALYSES, n, n)
            written["analyses"] += 1

    async def migrate() -> None:
        await schema.migrate(db.engine)
        done.set()

    await asyncio.gather(migrate(), arrive(), analyse())
    assert min(written.values()) > 50, written
    assert await look.fetch(_WRONG) == []
    assert await look.fetchval("SELECT count(*) FROM pending_episodes") > 1000


async def test_an_analysis_under_way_while_its_episode_is_copied_counts(db, connect):
    worker, look = await connect(), await connect()
    # Its trigger finds nothing to delete yet, and its row is seen by nobody else.
    async with worker.transaction():
        await worker.execute("SELECT FROM episodes WHERE id = md5('12000') FOR KEY SHARE")
        migration = asyncio.create_task(schema.migrate(db.engine))
        async with asyncio.timeout(30):
            while not await _waits_for_a_row(look):  # noqa: ASYNC110 - it is the database that waits
                await asyncio.sleep(0.01)
        await worker.execute(_ANALYSES, EPISODES, EPISODES)
    await migration
    assert await look.fetch(_WRONG) == []


async def _waits_for_a_row(connection) -> bool:
    return await connection.fetchval(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND query LIKE '%FOR UPDATE%' AND pid <> pg_backend_pid()"
    )


async def test_a_first_analysis_another_and_its_end_reach_the_list(db, connect):
    await schema.migrate(db.engine)
    connection = await connect()
    waits = "SELECT count(*) FROM pending_episodes WHERE episode_id = md5('20000')"
    await connection.execute(_EPISODES, 20_000, 20_000)
    assert await connection.fetchval(waits) == 1
    for _ in range(2):
        await connection.execute(_ANALYSES, 20_000, 20_000)
        assert await connection.fetchval(waits) == 0
    await connection.execute("UPDATE episode_analysis SET state = 'quarantined' WHERE episode_id = md5('20000')")
    assert await connection.fetchval(waits) == 0
    await connection.execute("DELETE FROM episode_analysis WHERE episode_id = md5('20000')")
    assert await connection.fetchval(waits) == 1
    assert await connection.fetch(_WRONG) == []
    # With its analysis, and without.
    await connection.execute("DELETE FROM episodes WHERE id IN (md5('20000'), md5('1'))")
    assert await connection.fetchval(waits) == 0
    assert await connection.fetch(_WRONG) == []


@pytest.mark.parametrize("table", ["episodes", "episode_analysis"])
async def test_behind_a_lock_it_gives_up_and_is_run_again(db, connect, table):
    holder = await connect()
    await holder.execute(f"BEGIN; LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
    with pytest.raises(DBAPIError, match="lock timeout"):
        await schema.migrate(db.engine)
    await holder.execute("COMMIT")
    assert await schema.current(db.engine) == BEFORE
    await schema.migrate(db.engine)
    assert await schema.current(db.engine) == schema.head()
    assert await holder.fetch(_WRONG) == []


async def test_behind_a_row_it_gives_up_and_is_run_again(db, connect):
    holder = await connect()
    await holder.execute("BEGIN; SELECT FROM episodes WHERE id = md5('12000') FOR KEY SHARE")
    with pytest.raises(DBAPIError, match="lock timeout"):
        await schema.migrate(db.engine)
    # What was being copied is let go of.
    await holder.execute(
        "SET lock_timeout = '1s'; UPDATE episodes SET label_note = 'x' WHERE id = md5('11999'); COMMIT"
    )
    await schema.migrate(db.engine)
    assert await holder.fetch(_WRONG) == []
