"""Migration 0011 beside the release before: the flags that were there, and those it writes meanwhile and later."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy.exc import DBAPIError

from lefleet_server import schema
from lefleet_server.db import Database

BEFORE, EPISODES = "0010", 12_000
# One in three has a flag, one in nine two, of which one is there twice.
_WRITE = """
INSERT INTO robots (id, hw, agent_version) VALUES ('robot-1', '', '');
INSERT INTO episodes (
    id, robot_id, receipt_id, sha256, bytes, started_at, ended_at, duration_s, frames, frames_dropped, fps, hz_held,
    outcome, interrupted, end_reason, task, policy_repo, policy_commit, policy_digest, cameras, meta, image_index
) SELECT md5(n::text), 'robot-1', n, n, 1, now() - n * interval '1 minute', now(), 1, 1, 0, 30, 30,
    'success', false, '', '', '', '', '', '[]', '{{}}', '{{}}' FROM generate_series(1, {episodes}) AS n;
INSERT INTO episode_analysis (episode_id, version, state, flags, statistics)
SELECT md5(n::text), 1, 'analysed', CASE
    WHEN n % 9 = 0 THEN '[{{"name": "stall"}}, {{"name": "jerk", "at": 1}}, {{"name": "jerk", "at": 2}}]'::jsonb
    WHEN n % 3 = 0 THEN '[{{"name": "stall"}}]' ELSE '[]' END, '{{}}' FROM generate_series(1, {episodes}) AS n
"""
_WRONG = """
WITH said AS (
    SELECT episode_id, flag ->> 'name' AS flag FROM episode_analysis, jsonb_array_elements(flags) AS flag
    UNION SELECT episode_id, 'any' FROM episode_analysis WHERE flags <> '[]'
), kept AS (
    SELECT episode_id, flag FROM episode_flags JOIN episodes ON id = episode_id AND
    episodes.started_at = episode_flags.started_at
)
(TABLE said EXCEPT TABLE kept) UNION ALL (TABLE kept EXCEPT TABLE said)
"""
_CHANGE = "UPDATE episode_analysis SET flags = $2 WHERE episode_id = md5($1)"
DARK = '[{"name": "camera_dark"}]'


@pytest.fixture
async def db(db: Database, connect: Callable) -> Database:
    """With analysed episodes."""
    await (await connect()).execute(_WRITE.format(episodes=EPISODES))
    return db


async def test_flags_that_change_while_they_are_copied_are_kept_as_they_are(db, connect):
    old, look = await connect(), await connect()

    async def write_on() -> None:
        for n in range(1, EPISODES, 7):
            await old.execute(_CHANGE, str(n), DARK if n % 2 else "[]")

    await asyncio.gather(schema.migrate(db.engine), write_on())
    assert await look.fetch(_WRONG) == []
    counts = dict(await look.fetch("SELECT flag, count(*) FROM episode_flags GROUP BY flag"))
    assert counts["stall"] > counts["jerk"] > 500 and counts["camera_dark"] > 500
    assert counts["any"] == await look.fetchval("SELECT count(*) FROM episode_analysis WHERE flags <> '[]'")


async def test_a_new_finding_and_its_end_reach_the_list(db, connect):
    await schema.migrate(db.engine)
    connection = await connect()
    for flags in (DARK, "[]", DARK, DARK, '[{"name": "idle"}, {"name": "idle"}]'):
        await connection.execute(_CHANGE, "2", flags)
        assert await connection.fetch(_WRONG) == []
    of_it = "SELECT flag FROM episode_flags WHERE episode_id = md5('2') ORDER BY flag"
    assert [row["flag"] for row in await connection.fetch(of_it)] == ["any", "idle"]
    await connection.execute("DELETE FROM episodes WHERE id = md5('2')")
    assert await connection.fetch(of_it) == []


async def test_behind_a_lock_it_gives_up_and_is_run_again(db, connect):
    holder = await connect()
    await holder.execute("BEGIN; LOCK TABLE episode_analysis IN ROW EXCLUSIVE MODE")
    with pytest.raises(DBAPIError, match="lock timeout"):
        await schema.migrate(db.engine)
    await holder.execute("COMMIT")
    assert await schema.current(db.engine) == BEFORE
    await schema.migrate(db.engine)
    assert await schema.current(db.engine) == schema.head()
    assert await holder.fetch(_WRONG) == []
