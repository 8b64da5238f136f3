"""Previews, legal holds, retention and deletion

Revision: 0007
After: 0006

Tables of their own: a server of the release before runs on without knowing them. It would take a deleted episode again
when its robot offers it, and does not know of holds; delete nothing until every process is of this release. While the
index on `episodes` is built (seconds for millions of rows) episodes that are complete wait to be stored.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")
_JSON = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    # The foreign keys take a lock on `episodes` for a moment; behind a long one nothing may queue up.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.create_index("ix_episodes_received", "episodes", ["received_at", "id"])
    _deletion()
    _retention()
    op.create_table(
        "episode_previews",
        sa.Column("episode_id", sa.String(), nullable=False),
        sa.Column("camera", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.CheckConstraint("kind IN ('video', 'first', 'last')", name=op.f("ck_episode_previews_kind")),
        sa.CheckConstraint("(sha256 IS NULL) <> (reason IS NULL)", name=op.f("ck_episode_previews_file_or_reason")),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.id"], name=op.f("fk_episode_previews_episode_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("episode_id", "camera", "kind", name=op.f("pk_episode_previews")),
    )
    op.create_index("ix_episode_previews_sha256", "episode_previews", ["sha256"])
    op.create_index("ix_episode_previews_version", "episode_previews", ["version"])


def _deletion() -> None:
    op.create_table(
        "deleted_episodes",
        sa.Column("episode_id", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("robot_id", sa.String(), nullable=False),
        sa.Column("receipt_id", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("deleted_by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("episode_id", name=op.f("pk_deleted_episodes")),
        sa.UniqueConstraint("sha256", name=op.f("uq_deleted_episodes_sha256")),
    )
    op.create_table(
        "blob_removals",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blob_removals")),
    )
    op.create_index("ix_blob_removals_due", "blob_removals", ["due_at", "sha256"])
    op.create_table(
        "legal_holds",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("episode_id", sa.String(), nullable=True),
        sa.Column("robot_id", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("placed_by", sa.String(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.CheckConstraint("num_nonnulls(episode_id, robot_id) = 1", name=op.f("ck_legal_holds_one_subject")),
        sa.ForeignKeyConstraint(["episode_id"], ["episodes.id"], name=op.f("fk_legal_holds_episode_id")),
        sa.ForeignKeyConstraint(["robot_id"], ["robots.id"], name=op.f("fk_legal_holds_robot_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_legal_holds")),
        sa.UniqueConstraint("episode_id", name=op.f("uq_legal_holds_episode_id")),
        sa.UniqueConstraint("robot_id", name=op.f("uq_legal_holds_robot_id")),
    )


def _retention() -> None:
    op.create_table(
        "retention_rules",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("older_than_days", sa.Float(), nullable=True),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("outcomes", _JSON, nullable=False),
        sa.Column("robots", _JSON, nullable=False),
        sa.Column("labelled", sa.Boolean(), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("changed_by", sa.String(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.CheckConstraint("num_nonnulls(older_than_days, quota_bytes) > 0", name=op.f("ck_retention_rules_has_limit")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_retention_rules")),
    )
    op.create_table(
        "retention_runs",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("episodes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_retention_runs")),
    )
