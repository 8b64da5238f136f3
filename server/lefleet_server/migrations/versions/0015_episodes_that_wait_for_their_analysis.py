"""Episodes that wait for their analysis, in the order of the list

Revision: 0015
After: 0014

A server and a worker of the release before run on: they write episodes and analyses as before, and triggers keep the
rows that the list is filtered by. Cut off in the middle, the migration is run again from its beginning.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_AT_ONCE = 5000
_LAST = sa.text("SELECT max(id) FROM (SELECT id FROM episodes WHERE id > :after ORDER BY id LIMIT :at_once) AS few")
# Locked, an episode gets no analysis, for its foreign key asks for the row.
_LOCK = sa.text(
    """
    SELECT id FROM episodes WHERE id > :after AND id <= :last
    AND NOT EXISTS (SELECT FROM episode_analysis WHERE episode_id = episodes.id) ORDER BY id FOR UPDATE
    """
)
# An analysis that was being written has been waited for; only a statement after that sees it.
_COPY = sa.text(
    """
    INSERT INTO pending_episodes (episode_id, started_at)
    SELECT id, started_at FROM episodes WHERE id = ANY(:locked)
    AND NOT EXISTS (SELECT FROM episode_analysis WHERE episode_id = episodes.id)
    ON CONFLICT DO NOTHING
    """
)


def upgrade() -> None:
    # One locked table at a time, each lock taken soon or not at all, as in 0009.
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '5s'")
        op.execute("SET statement_timeout = '60s'")
        _table()
        # What ends the waiting first: an episode that is noted is then sure to be forgotten.
        _keep()
        _note()
        after: str | None = ""
        while after is not None:
            after = _copy(after)
        op.execute("ANALYZE pending_episodes")


def _table() -> None:
    op.create_table(
        "pending_episodes",
        sa.Column("episode_id", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.id"], name=op.f("fk_pending_episodes_episode_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("episode_id", name=op.f("pk_pending_episodes")),
        if_not_exists=True,
    )
    columns = ["started_at", "episode_id"]
    op.create_index("ix_pending_episodes_started", "pending_episodes", columns, if_not_exists=True)
    # As of episode_flags in 0011: joined by id and time, of which the time chooses nothing.
    op.execute("ALTER TABLE pending_episodes ALTER COLUMN started_at SET (n_distinct = 1)")


def _keep() -> None:
    op.execute(
        """
        CREATE OR REPLACE FUNCTION keep_pending_episode() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                DELETE FROM pending_episodes WHERE episode_id = NEW.episode_id;
            ELSE
                -- None where the episode itself goes, and its analysis with it.
                INSERT INTO pending_episodes (episode_id, started_at)
                SELECT id, started_at FROM episodes WHERE id = OLD.episode_id ON CONFLICT DO NOTHING;
            END IF;
            RETURN NULL;
        END $$
        """
    )
    # By its name after PostgreSQL's own trigger of the foreign key, which waits for _LOCK: what was copied is seen.
    op.execute(
        """
        CREATE OR REPLACE TRIGGER keep_pending_episode AFTER INSERT OR DELETE ON episode_analysis
        FOR EACH ROW EXECUTE FUNCTION keep_pending_episode()
        """
    )


def _note() -> None:
    op.execute(
        """
        CREATE OR REPLACE FUNCTION note_pending_episode() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO pending_episodes (episode_id, started_at) VALUES (NEW.id, NEW.started_at);
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE TRIGGER note_pending_episode AFTER INSERT ON episodes
        FOR EACH ROW EXECUTE FUNCTION note_pending_episode()
        """
    )


def _copy(after: str) -> str | None:
    """Notes what waits among the next ids, and gives the last of them; None at the end."""
    connection = op.get_bind()
    last: str | None = connection.execute(_LAST, {"after": after, "at_once": _AT_ONCE}).scalar()
    if last is not None:
        op.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        locked = connection.execute(_LOCK, {"after": after, "last": last}).scalars().all()
        connection.execute(_COPY, {"locked": locked})
        op.execute("COMMIT")
    return last
