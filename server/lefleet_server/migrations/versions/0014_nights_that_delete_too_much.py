"""Nights that would delete too much

Revision: 0014
After: 0013

A worker of the release before runs on: its nights have no bound, and are not refused.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("retention_runs", sa.Column("refused", sa.String(), server_default="", nullable=False))
