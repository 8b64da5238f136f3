"""Emergency stops that people ask for

Revision: 0002
After: 0001

A table of its own: a server of the release before runs on without knowing it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "robot_stops",
        sa.Column("robot_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["robot_id"], ["robots.id"], name=op.f("fk_robot_stops_robot_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("robot_id", name=op.f("pk_robot_stops")),
    )
