"""Migration 0016 beside the release before: sums of what was stored, and of what comes, goes and is lost meanwhile."""

import asyncio
import importlib
from collections.abc import Callable

import pytest
from sqlalchemy.exc import DBAPIError

from lefleet_server import schema
from lefleet_server.db import Database

BEFORE, EPISODES, ROBOTS = "0015", 12_000, 3
MIGRATION = importlib.import_module("lefleet_server.migrations.versions.0016_releases_tasks_and_sums")
# Of the robots in turn, with as many bytes as their number says; robot-0 has none.
_EPISODES = """
INSERT INTO episodes (
    id, robot_id, receipt_id, sha256, bytes, started_at, ended_at, duration_s, frames, frames_dropped, fps, hz_held,
    outcome, interrupted, end_reason, task, policy_repo, policy_commit, policy_digest, cameras, meta, image_index
) SELECT md5(n::text), 'robot-' || 1 + n % 3, n, n, n, now() - n * interval '1 minute', now(), 1, 1, 0, 30, 30,
    'success', false, '', $3, 'lab/a', 'c' || n % 5, '', '[]', '{}', '{}' FROM generate_series($1::int, $2::int) AS n
ON CONFLICT DO NOTHING
"""
_LOSE = "UPDATE episodes SET blob_missing_at = now() WHERE id = md5($1)"
_FIND = "UPDATE episodes SET blob_missing_at = NULL WHERE id = md5($1)"
_DELETE = "DELETE FROM episodes WHERE id = md5($1)"
_WRONG = """
WITH there AS (
    SELECT robot_id, count(*), coalesce(sum(bytes) FILTER (WHERE blob_missing_at IS NULL), 0) AS bytes,
        count(blob_missing_at) AS lost FROM episodes GROUP BY robot_id
), kept AS (SELECT robot_id, episodes, bytes, lost FROM robot_stored WHERE (episodes, bytes, lost) <> (0, 0, 0))
(TABLE there EXCEPT TABLE kept) UNION ALL (TABLE kept EXCEPT TABLE there)
"""


@pytest.fixture
async def db(db: Database, connect: Callable) -> Database:
    """With episodes, of which one in ten has lost its file."""
    connection = await connect()
    await connection.execute(
        "INSERT INTO robots (id, hw, agent_version) SELECT 'robot-' || n, '', '' FROM generate_series(0, 3) AS n"
    )
    await connection.execute(_EPISODES, 1, EPISODES, "")
    await connection.execute("UPDATE episodes SET blob_missing_at = now() WHERE bytes % 10 = 0")
    return db


async def test_what_comes_goes_and_is_lost_meanwhile_is_counted_once(db, connect):
    server, people, fsck, look = await connect(), await connect(), await connect(), await connect()
    done = asyncio.Event()
    written = dict.fromkeys(("come", "gone", "lost"), 0)

    async def each(connection, name: str, first: int, statements: Callable[[int], list[tuple]]) -> None:
        n = first
        while not done.is_set():
            n += 1
            for statement, *values in statements(n):
                await connection.execute(statement, *values)
            written[name] += 1

    async def migrate() -> None:
        await schema.migrate(db.engine)
        done.set()

    await asyncio.gather(
        migrate(),
        each(server, "come", EPISODES, lambda n: [(_EPISODES, n, n, "")]),
        each(people, "gone", 0, lambda n: [(_DELETE, str(n))]),
        each(fsck, "lost", EPISODES // 2, lambda n: [(_LOSE, str(n)), (_FIND, str(n - 5))]),
    )
    assert min(written.values()) > 50, written
    assert await look.fetch(_WRONG) == []
    assert await look.fetchval("SELECT count(*) FROM robot_stored") == ROBOTS


async def test_an_upload_under_way_while_they_are_counted_counts_once_and_wrong_sums_are_mended(db, connect):
    await schema.migrate(db.engine)
    server, other, look = await connect(), await connect(), await connect()
    await look.execute("UPDATE robot_stored SET episodes = 7, lost = -1 WHERE robot_id = 'robot-2'")
    async with server.transaction():
        await server.execute(_EPISODES, 30_000, 30_000, "")  # of robot-1: its sums are locked until it ends
        counting = asyncio.create_task(other.execute(MIGRATION._COUNT))
        async with asyncio.timeout(30):
            while not await _waits(look):  # noqa: ASYNC110 - it is the database that waits
                await asyncio.sleep(0.01)
        # The count has not seen it, the triggers have.
        await look.execute("DELETE FROM episodes WHERE robot_id = 'robot-3' AND bytes < 1000")
    await counting
    assert await look.fetch(_WRONG) == []


async def _waits(connection) -> bool:
    return await connection.fetchval(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND query LIKE '%robot_stored%' AND pid <> pg_backend_pid()"
    )


async def test_each_change_of_an_episode_is_in_the_sums(db, connect):
    await schema.migrate(db.engine)
    connection = await connect()
    changes = [
        (_EPISODES, EPISODES - 5, EPISODES + 20, ""),  # some are there already
        (_EPISODES, 1, 5, ""),
        (_LOSE, "11"),
        (_LOSE, "11"),
        (_FIND, "11"),
        (_FIND, "11"),
        (_DELETE, "20"),  # lost
        (_DELETE, "21"),
        (_DELETE, "21"),
        ("DELETE FROM episodes WHERE bytes % 2 = 0",),
        ("DELETE FROM episodes WHERE robot_id = 'robot-1'",),
        (_EPISODES, 50_000, 50_010, ""),
    ]
    for statement, *values in changes:
        await connection.execute(statement, *values)
        assert await connection.fetch(_WRONG) == [], statement
    received = await connection.fetchval("SELECT max(received_at) FROM episodes")
    assert await connection.fetchval("SELECT min(newest_at) FROM robot_stored") == received


async def test_a_task_longer_than_an_index_takes_is_stored(db, connect):
    await schema.migrate(db.engine)
    connection = await connect()
    task = "".join(chr(0x4E00 + 7919 * n % 20_000) for n in range(4000))
    await connection.execute(_EPISODES, 20_000, 20_000, task)
    assert await connection.fetchval("SELECT task FROM episodes WHERE id = md5('20000')") == task


async def test_behind_a_lock_it_gives_up_and_is_run_again(db, connect):
    holder = await connect()
    await holder.execute("BEGIN; LOCK TABLE episodes IN ROW EXCLUSIVE MODE")
    with pytest.raises(DBAPIError, match="lock timeout"):
        await schema.migrate(db.engine)
    await holder.execute("COMMIT")
    assert await schema.current(db.engine) == BEFORE
    await schema.migrate(db.engine)
    assert await schema.current(db.engine) == schema.head()
    assert await holder.fetch(_WRONG) == []
