"""Jobs, and what they found in episodes

Revision: 0005
After: 0003

Tables of their own: a server of the release before runs on without knowing them. What it receives meanwhile has no job;
`lefleet-server jobs enqueue --all-older-than-version` finds it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The foreign keys take a lock on `episodes` for a moment; behind a long one nothing may queue up.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("episode_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.String(), server_default="queued", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("run_after", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("claim", sa.String(), nullable=True),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'running', 'dead')", name=op.f("ck_jobs_state")),
        sa.ForeignKeyConstraint(["episode_id"], ["episodes.id"], name=op.f("fk_jobs_episode_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("queue", "episode_id", "version", name="uq_jobs_work"),
    )
    op.create_index(
        "ix_jobs_due", "jobs", ["priority", "run_after", "id"], postgresql_where=sa.text("state = 'queued'")
    )
    op.create_index("ix_jobs_heartbeat", "jobs", ["heartbeat_at"], postgresql_where=sa.text("state = 'running'"))
    op.create_table(
        "episode_analysis",
        sa.Column("episode_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("flags", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("statistics", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("analysed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state IN ('analysed', 'quarantined')", name=op.f("ck_episode_analysis_state")),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.id"], name=op.f("fk_episode_analysis_episode_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("episode_id", name=op.f("pk_episode_analysis")),
    )
    op.create_index(
        "ix_episode_analysis_quarantined",
        "episode_analysis",
        ["episode_id"],
        postgresql_where=sa.text("state = 'quarantined'"),
    )
    op.create_index("ix_episode_analysis_version", "episode_analysis", ["version"])
