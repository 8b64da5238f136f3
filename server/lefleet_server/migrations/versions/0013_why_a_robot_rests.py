"""Why a robot is to rest

Revision: 0013
After: 0012

A server of the release before runs on: it says orders without a reason, and a rest that it orders keeps the reason of
the one before it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("robot_orders", sa.Column("reason", sa.String(), server_default="", nullable=False))
