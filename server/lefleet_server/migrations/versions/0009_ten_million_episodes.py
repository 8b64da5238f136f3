"""Indexes for ten million episodes, the quarantine where the list can see it, and named sets

Revision: 0009
After: 0008

A server of the release before runs on: it writes the analysis as before, and a trigger copies what the list needs. The
indexes are built while it writes. Cut off in the middle, the migration is run again from its beginning.
"""

import sqlalchemy as sa
from alembic import op

from lefleet_server.migrations.indexes import build

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STARTED = "started_at, id"
INDEXES = {
    "ix_episodes_robot_policy_started": f"(robot_id, policy_repo, {_STARTED})",
    "ix_episodes_robot_result_started": f"(robot_id, result, {_STARTED})",
    "ix_episodes_policy_result_started": f"(policy_repo, result, {_STARTED})",
    "ix_episodes_interrupted": f"({_STARTED}) WHERE interrupted",
    "ix_episodes_robot_interrupted": f"(robot_id, {_STARTED}) WHERE interrupted",
    "ix_episodes_policy_interrupted": f"(policy_repo, {_STARTED}) WHERE interrupted",
    "ix_episodes_labelled": f"({_STARTED}) WHERE label_outcome IS NOT NULL",
    "ix_episodes_robot_labelled": f"(robot_id, {_STARTED}) WHERE label_outcome IS NOT NULL",
    "ix_episodes_policy_labelled": f"(policy_repo, {_STARTED}) WHERE label_outcome IS NOT NULL",
    "ix_episodes_quarantined": f"({_STARTED}) WHERE quarantined",
}


def upgrade() -> None:
    # One locked table at a time, each lock taken soon or not at all: the release before writes to these tables, and its
    # transactions hold one while they wait for another.
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '5s'")
        op.execute("SET statement_timeout = '60s'")
        op.execute("ALTER TABLE episodes ADD COLUMN IF NOT EXISTS quarantined boolean NOT NULL DEFAULT false")
        op.execute(
            """
            ALTER TABLE episodes SET (
                autovacuum_vacuum_insert_scale_factor = 0,
                autovacuum_vacuum_insert_threshold = 50000,
                autovacuum_analyze_scale_factor = 0.01
            )
            """
        )
        _copy_quarantine()
    _sets()
    with op.get_context().autocommit_block():
        # An index that is built concurrently waits for every transaction that is older; nobody waits for it.
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        op.execute(
            """
            UPDATE episodes SET quarantined = true FROM episode_analysis AS found
            WHERE found.episode_id = episodes.id AND found.state = 'quarantined' AND NOT episodes.quarantined
            """
        )
        for name, what in INDEXES.items():
            build(name, what)
        op.execute("SET lock_timeout = '5s'")


def _copy_quarantine() -> None:
    op.execute(
        """
        CREATE OR REPLACE FUNCTION episode_quarantine() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE episodes SET quarantined = (TG_OP <> 'DELETE' AND NEW.state = 'quarantined')
            WHERE id = coalesce(NEW.episode_id, OLD.episode_id)
            AND quarantined <> (TG_OP <> 'DELETE' AND NEW.state = 'quarantined');
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE TRIGGER episode_quarantine AFTER INSERT OR DELETE OR UPDATE OF state ON episode_analysis
        FOR EACH ROW EXECUTE FUNCTION episode_quarantine()
        """
    )


def _sets() -> None:
    op.create_table(
        "episode_sets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("note", sa.String(), server_default="", nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_episode_sets")),
        sa.UniqueConstraint("name", name=op.f("uq_episode_sets_name")),
        if_not_exists=True,
    )
    op.create_table(
        "episode_set_members",
        sa.Column("set_id", sa.BigInteger(), nullable=False),
        sa.Column("episode_id", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["set_id"], ["episode_sets.id"], name=op.f("fk_episode_set_members_set_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.id"], name=op.f("fk_episode_set_members_episode_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("set_id", "episode_id", name=op.f("pk_episode_set_members")),
        if_not_exists=True,
    )
    members = "episode_set_members"
    op.create_index(
        "ix_episode_set_members_started", members, ["set_id", "started_at", "episode_id"], if_not_exists=True
    )
    op.create_index("ix_episode_set_members_episode_id", members, ["episode_id"], if_not_exists=True)
