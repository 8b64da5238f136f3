"""Millions of rows in `episodes` that look like a fleet's: the same for the same numbers, made by PostgreSQL itself."""

from collections.abc import Awaitable, Callable
from hashlib import md5
from typing import Any

POLICIES = 24
TASKS = ("Put the block on the disc", "Fold the towel", "Open the drawer", "Sort the screws")
OLD_TASK = "Find the edge of the table"
"""Half of the year's first month, and none since."""
DAYS = 365
CHUNK = 500_000
_META = """{"sim": false, "robot_type": "so101_follower", "joint_names": ["shoulder_pan", "shoulder_lift", "elbow_flex",
 "wrist_flex", "wrist_roll", "gripper"], "joint_units": ["deg", "deg", "deg", "deg", "deg", "percent"],
 "camera_fingerprints": {"front": "front-640x480-30", "wrist": "wrist-640x480-30"}, "agent_version": "0.1.0",
 "calibration_fingerprint": "3f2a1c9d5b7e4a60", "policy_type": "act", "lefleet_format": "1", "seed": null}"""
_IMAGES = """{"front": {"offset": 8192, "stride": 81920, "bytes_offset": 49000000},
 "wrist": {"offset": 49200000, "stride": 81920, "bytes_offset": 98400000}}"""

_ROBOTS = """
INSERT INTO robots (id, hw, agent_version) SELECT 'robot-' || n, 'bench', '0.1.0' FROM generate_series(1, $1::int) AS n
ON CONFLICT DO NOTHING
"""
# Draws are hashes of the row's number. A robot's policy is one of three that are in use in that part of the year; one
# in five fails, one in fifty is unknown, one in sixteen was interrupted, one in twenty was judged by a person. A policy
# has three releases, in use at the same time.
_EPISODES = f"""
INSERT INTO episodes (
    id, robot_id, receipt_id, sha256, bytes, received_at, started_at, ended_at, duration_s, frames, frames_dropped, fps,
    hz_held, outcome, label_outcome, interrupted, end_reason, task, policy_repo, policy_commit, policy_digest, cameras,
    meta, image_index
)
SELECT md5(n::text), 'robot-' || 1 + draw(n, 1) % $3::int, md5(n || 'r'), md5(n || 'a') || md5(n || 'b'),
    20000000 + draw(n, 2) % 5000000, begun + interval '1 minute', begun, begun + interval '20 seconds', 20, 600, 0, 30,
    29.9 + draw(n, 3) % 100 / 1000.0,
    CASE WHEN draw(n, 4) % 5 = 0 THEN 'failure' WHEN draw(n, 4) % 50 = 1 THEN 'unknown' ELSE 'success' END,
    CASE WHEN draw(n, 5) % 20 = 0 THEN (ARRAY['success', 'failure'])[1 + draw(n, 6) % 2] END,
    draw(n, 7) % 16 = 0, 'goal reached',
    CASE WHEN n < $4 / 12 AND draw(n, 12) % 2 = 0 THEN '{OLD_TASK}'
        ELSE (ARRAY{list(TASKS)})[1 + draw(n, 11) % {len(TASKS)}] END,
    'lab/policy-' || policy,
    md5('commit' || policy || draw(n, 9) % 3) || '00000000', md5('digest' || policy) || md5('digest' || policy),
    '["front", "wrist"]', '{_META}', '{_IMAGES}'
FROM (
    SELECT n, now() - (1 - n / $4::float8) * interval '{DAYS} days' + draw(n, 8) % 60 * interval '1 second' AS begun,
        (n * ({POLICIES} - 2) / ($4::bigint + 1)) + draw(n, 10) % 3 AS policy
    FROM generate_series($1::bigint, $2::bigint) AS n
) AS drawn
"""  # noqa: S608 - constants of this module
_DRAW = """
CREATE OR REPLACE FUNCTION draw(n bigint, seed bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashint8extended(n, seed) & 2147483647
"""
_ANALYSIS = """
INSERT INTO episode_analysis (episode_id, version, state, reason, flags, statistics)
SELECT id, 1, 'quarantined', 'file: truncated', '[]', '{}' FROM episodes WHERE hashtext(id) & 1023 = 0
"""
# One in ten stalled, one in a thousand is dark, one in ten of the year's first month has a frozen camera.
_FLAGGED = f"""
INSERT INTO episode_analysis (episode_id, version, state, flags, statistics)
SELECT id, 1, 'analysed', jsonb_agg(jsonb_build_object('name', name, 'message', 'in the middle', 'value', 0.5)), '{{}}'
FROM (SELECT id, started_at, hashtext(id || 'flags') & 2147483647 AS h FROM episodes) AS drawn, LATERAL (VALUES
    ('stall', h % 10 = 0), ('camera_dark', h % 1000 = 1),
    ('camera_frozen', h % 10 = 2 AND started_at < now() - interval '{DAYS - 30} days')
) AS flags (name, has)
WHERE has GROUP BY id ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants of this module
# Workers keep up: what waits came in the last ten minutes, and a few of the year's first month, whose jobs died.
_PENDING = f"""
INSERT INTO pending_episodes (episode_id, started_at) SELECT id, started_at FROM episodes
WHERE (started_at > now() - interval '10 minutes'
    OR hashtext(id) & 1023 = 7 AND started_at < now() - interval '{DAYS - 30} days')
AND NOT EXISTS (SELECT FROM episode_analysis WHERE episode_id = episodes.id)
"""  # noqa: S608 - constants of this module
_THE_OTHERS = """
INSERT INTO episode_analysis (episode_id, version, state, flags, statistics)
SELECT id, 1, 'analysed', '[]', '{}' FROM episodes WHERE id > $1 AND id <= $2
AND NOT EXISTS (SELECT FROM pending_episodes WHERE episode_id = episodes.id) ON CONFLICT DO NOTHING
"""
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes JOIN pg_class ON relname = indexname
WHERE tablename = 'episodes' AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = pg_class.oid)
"""


async def fill(connection: Any, episodes: int, robots: int, tell: Callable[[str], None] = lambda _: None) -> None:
    """Fills empty tables by an asyncpg connection. Indexes are built when the rows are there: a third of the time."""
    await connection.execute("SET maintenance_work_mem = '1GB'")
    await connection.execute(_DRAW)
    await connection.execute(_ROBOTS, robots)
    indexes = await connection.fetch(_INDEXES)
    for index in indexes:
        await connection.execute(f'DROP INDEX "{index["indexname"]}"')
    # What a trigger would note of each and forget again is written once, below.
    await connection.execute("ALTER TABLE episodes DISABLE TRIGGER note_pending_episode")
    for first in range(1, episodes + 1, CHUNK):
        tell(f"{first - 1:,} of {episodes:,} rows")
        await connection.execute(_EPISODES, first, min(first + CHUNK - 1, episodes), robots, float(episodes))
    await connection.execute("ALTER TABLE episodes ENABLE TRIGGER note_pending_episode")
    for index in indexes:
        tell(f"index {index['indexname']}")
        await connection.execute(index["indexdef"])
    tell("analysis")
    await connection.execute(_ANALYSIS)
    await connection.execute(_FLAGGED)
    await connection.execute(_PENDING)
    await connection.execute("ALTER TABLE episode_analysis DISABLE TRIGGER USER")
    for digit in "0123456789abcdef":
        tell(f"analyses of episodes {digit}...")
        await connection.execute(_THE_OTHERS, digit, f"{digit}g")
    await connection.execute("ALTER TABLE episode_analysis ENABLE TRIGGER USER")
    tell("vacuum")
    await connection.execute("VACUUM (ANALYZE) episodes")
    await connection.execute("ANALYZE episode_analysis, episode_flags, pending_episodes")


def release(policy: int, number: int) -> str:
    """The commit of one of a policy's three releases."""
    return f"{md5(f'commit{policy}{number}'.encode(), usedforsecurity=False).hexdigest()}00000000"


type Fill = Callable[[Any, int, int], Awaitable[None]]
