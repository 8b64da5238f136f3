"""What people say about the episode that runs

Revision: 0006
After: 0005

A table of its own: a server of the release before runs on without knowing it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "robot_verdicts",
        sa.Column("robot_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("word", sa.String(), nullable=False),
        sa.Column("episode_id", sa.String(), nullable=False),
        sa.Column("said_by", sa.String(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["robot_id"], ["robots.id"], name=op.f("fk_robot_verdicts_robot_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("robot_id", name=op.f("pk_robot_verdicts")),
    )
