"""What people order from afar: rest, and a task

Revision: 0012
After: 0011

A table of its own: a server of the release before runs on without knowing it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "robot_orders",
        sa.Column("robot_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("value", postgresql.JSONB(), nullable=False),
        sa.Column("said_by", sa.String(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["robot_id"], ["robots.id"], name=op.f("fk_robot_orders_robot_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("robot_id", "kind", name=op.f("pk_robot_orders")),
    )
