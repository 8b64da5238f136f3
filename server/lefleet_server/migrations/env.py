"""Run by Alembic. The connection comes from lefleet_server.schema; there is no offline mode."""

from alembic import context
from alembic.runtime.migration import MigrationContext

from lefleet_server.accounts import models as _accounts
from lefleet_server.analysis import models as _analysis
from lefleet_server.audit import models as _audit
from lefleet_server.db import Base
from lefleet_server.deletion import models as _deletion
from lefleet_server.episodes import models as _episodes
from lefleet_server.jobs import models as _jobs
from lefleet_server.previews import models as _previews
from lefleet_server.retention import models as _retention
from lefleet_server.robots import models as _robots
from lefleet_server.schema import TIMEOUTS
from lefleet_server.sets import models as _sets
from lefleet_server.views import models as _views

MODELS = (_accounts, _analysis, _audit, _deletion, _episodes, _jobs, _previews, _retention, _robots, _sets, _views)
"""Imported so that every table is in the metadata."""


def set_timeouts_again(ctx: MigrationContext, step: object, heads: object, run_args: object) -> None:
    """What one migration set must not hold for the next."""
    for each in TIMEOUTS:
        ctx.impl.execute(each)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_server_default=True,
    transaction_per_migration=True,
    on_version_apply=set_timeouts_again,
)
with context.begin_transaction():
    context.run_migrations()
