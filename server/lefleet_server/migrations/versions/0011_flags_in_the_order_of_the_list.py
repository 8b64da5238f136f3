"""Quality flags in the order of the list

Revision: 0011
After: 0010

A server of the release before runs on: it writes the analysis as before, and a trigger keeps the rows that the list is
filtered by. Cut off in the middle, the migration is run again from its beginning.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_AT_ONCE = 5000
# Locked, so that none is changed between the look and the deed. Those that get flags later are the trigger's.
_COPY = sa.text(
    """
    WITH found AS (
        SELECT episode_id, flags FROM episode_analysis WHERE episode_id > :after AND flags <> '[]'
        ORDER BY episode_id LIMIT :at_once FOR SHARE
    ), copied AS (
        INSERT INTO episode_flags (episode_id, flag, started_at)
        SELECT found.episode_id, flag, started_at FROM found JOIN episodes ON episodes.id = found.episode_id,
            names_of_flags(found.flags) AS flag
        ON CONFLICT DO NOTHING
    )
    SELECT max(episode_id) FROM found
    """
)


def upgrade() -> None:
    # One locked table at a time, each lock taken soon or not at all, as in 0009.
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '5s'")
        op.execute("SET statement_timeout = '60s'")
        _table()
        _trigger()
        _say_what_joins()
        after: str | None = ""
        while after is not None:
            after = op.get_bind().execute(_COPY, {"after": after, "at_once": _AT_ONCE}).scalar()
        op.execute("SET statement_timeout = 0")
        op.execute("ANALYZE episode_flags")
        op.execute("ANALYZE episodes (started_at)")


def _table() -> None:
    op.create_table(
        "episode_flags",
        sa.Column("episode_id", sa.String(), nullable=False),
        sa.Column("flag", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["episode_id"],
            ["episode_analysis.episode_id"],
            name=op.f("fk_episode_flags_episode_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("episode_id", "flag", name=op.f("pk_episode_flags")),
        if_not_exists=True,
    )
    columns = ["flag", "started_at", "episode_id"]
    op.create_index("ix_episode_flags_started", "episode_flags", columns, if_not_exists=True)


def _say_what_joins() -> None:
    """Flags are joined by id and time. PostgreSQL takes the two for independent, expects next to nothing, and so reads
    everything; told that the time chooses nothing (it never does, beside the id), it expects what there is."""
    for table in ("episodes", "episode_flags"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN started_at SET (n_distinct = 1)")


def _trigger() -> None:
    op.execute(
        """
        CREATE OR REPLACE FUNCTION names_of_flags(flags jsonb) RETURNS SETOF text LANGUAGE sql IMMUTABLE AS $$
            SELECT each ->> 'name' FROM jsonb_array_elements(flags) AS each WHERE each ->> 'name' IS NOT NULL
            UNION SELECT 'any' WHERE jsonb_array_length(flags) > 0
        $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE FUNCTION keep_episode_flags() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                DELETE FROM episode_flags WHERE episode_id = NEW.episode_id;
            END IF;
            INSERT INTO episode_flags (episode_id, flag, started_at)
            SELECT id, flag, started_at FROM episodes, names_of_flags(NEW.flags) AS flag WHERE id = NEW.episode_id;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE TRIGGER keep_episode_flags AFTER INSERT OR UPDATE OF flags ON episode_analysis
        FOR EACH ROW EXECUTE FUNCTION keep_episode_flags()
        """
    )
