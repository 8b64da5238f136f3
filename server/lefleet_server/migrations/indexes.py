"""Indexes of `episodes` that migrations build while the server before goes on writing."""

import sqlalchemy as sa
from alembic import op


def build(name: str, what: str) -> None:
    """`what`: columns and condition. Outside a transaction only.

    One that was cut off lies there, invalid, and is built anew.
    """
    valid = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)").bindparams(name=name)
    if op.get_bind().execute(valid).scalar() is False:
        op.execute(f"DROP INDEX CONCURRENTLY {name}")
    op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON episodes {what}")
