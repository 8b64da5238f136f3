"""Releases and tasks in the order of the list, and what each robot has stored

Revision: 0016
After: 0015

A server of the release before runs on: it writes episodes as before, and triggers keep the sums. The indexes are built
while it writes. Cut off in the middle, the migration is run again from its beginning.
"""

import sqlalchemy as sa
from alembic import op

from lefleet_server.migrations.indexes import build

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_episodes_policy_release_started": "(policy_repo, policy_commit, started_at, id)",
    # Whole tasks may be longer than an index takes.
    "ix_episodes_task_started": "(left(task, 100), started_at, id)",
}
# Adds what the sums lack, both as of one moment: what the triggers add meanwhile is in neither, and stays.
_COUNT = """
INSERT INTO robot_stored AS kept (robot_id, episodes, bytes, lost, newest_at)
SELECT
    robot_id, coalesce(there.episodes, 0) - coalesce(said.episodes, 0),
    coalesce(there.bytes, 0) - coalesce(said.bytes, 0), coalesce(there.lost, 0) - coalesce(said.lost, 0),
    coalesce(there.newest_at, said.newest_at)
FROM (
    SELECT
        robot_id, count(*) AS episodes, sum(bytes) FILTER (WHERE blob_missing_at IS NULL) AS bytes,
        count(blob_missing_at) AS lost, max(received_at) AS newest_at
    FROM episodes GROUP BY robot_id
) AS there FULL JOIN robot_stored AS said USING (robot_id)
ORDER BY robot_id
ON CONFLICT (robot_id) DO UPDATE SET
    episodes = kept.episodes + EXCLUDED.episodes, bytes = kept.bytes + EXCLUDED.bytes,
    lost = kept.lost + EXCLUDED.lost, newest_at = greatest(kept.newest_at, EXCLUDED.newest_at)
"""


def upgrade() -> None:
    # One locked table at a time, each lock taken soon or not at all, as in 0009.
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '5s'")
        op.execute("SET statement_timeout = '60s'")
        _table()
        _keep_sums()
        _keep_lost()
        # Commits of a policy are its own: taken for independent, PostgreSQL would expect far too few.
        op.execute(
            "CREATE STATISTICS IF NOT EXISTS episodes_releases (dependencies) "
            "ON policy_repo, policy_commit FROM episodes"
        )
        # Ten million take minutes; nobody waits for them.
        op.execute("SET statement_timeout = 0")
        op.execute(_COUNT)
        # An index that is built concurrently waits for every transaction that is older; nobody waits for it.
        op.execute("SET lock_timeout = 0")
        for name, what in INDEXES.items():
            build(name, what)
        op.execute("ANALYZE episodes")
        op.execute("SET lock_timeout = '5s'")


def _table() -> None:
    op.create_table(
        "robot_stored",
        sa.Column("robot_id", sa.String(), nullable=False),
        sa.Column("episodes", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.Column("newest_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["robot_id"], ["robots.id"], name=op.f("fk_robot_stored_robot_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("robot_id", name=op.f("pk_robot_stored")),
        if_not_exists=True,
    )


def _keep_sums() -> None:
    """By statement: one that writes many changes each robot's row once, in one order, so that no two wait for each
    other."""
    op.execute(
        """
        CREATE OR REPLACE FUNCTION keep_robot_stored() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            sign integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
        BEGIN
            INSERT INTO robot_stored AS kept (robot_id, episodes, bytes, lost, newest_at)
            SELECT robot_id, sign * count(*), sign * coalesce(sum(bytes) FILTER (WHERE blob_missing_at IS NULL), 0),
                sign * count(blob_missing_at), max(received_at)
            FROM changed GROUP BY robot_id ORDER BY robot_id
            ON CONFLICT (robot_id) DO UPDATE SET
                episodes = kept.episodes + EXCLUDED.episodes, bytes = kept.bytes + EXCLUDED.bytes,
                lost = kept.lost + EXCLUDED.lost, newest_at = greatest(kept.newest_at, EXCLUDED.newest_at);
            RETURN NULL;
        END $$
        """
    )
    for name, event in (
        ("insert", "INSERT ON episodes REFERENCING NEW"),
        ("delete", "DELETE ON episodes REFERENCING OLD"),
    ):
        op.execute(
            f"CREATE OR REPLACE TRIGGER keep_robot_stored_{name} AFTER {event} TABLE AS changed "
            "FOR EACH STATEMENT EXECUTE FUNCTION keep_robot_stored()"
        )


def _keep_lost() -> None:
    op.execute(
        """
        CREATE OR REPLACE FUNCTION keep_robot_lost() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            sign integer := CASE WHEN NEW.blob_missing_at IS NULL THEN -1 ELSE 1 END;
        BEGIN
            INSERT INTO robot_stored AS kept (robot_id, episodes, bytes, lost, newest_at)
            VALUES (NEW.robot_id, 0, -sign * NEW.bytes, sign, NEW.received_at)
            ON CONFLICT (robot_id) DO UPDATE SET bytes = kept.bytes + EXCLUDED.bytes, lost = kept.lost + EXCLUDED.lost;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE TRIGGER keep_robot_lost AFTER UPDATE OF blob_missing_at ON episodes FOR EACH ROW
        WHEN ((OLD.blob_missing_at IS NULL) <> (NEW.blob_missing_at IS NULL)) EXECUTE FUNCTION keep_robot_lost()
        """
    )
