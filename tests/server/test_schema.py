"""Migrations and models agree, and the program refuses a schema that is not its own."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from lefleet_server import schema
from lefleet_server.accounts import models as _accounts  # noqa: F401 - fills the metadata
from lefleet_server.analysis import models as _analysis  # noqa: F401
from lefleet_server.audit import models as _audit  # noqa: F401
from lefleet_server.db import Base
from lefleet_server.deletion import models as _deletion  # noqa: F401
from lefleet_server.episodes import models as _episodes  # noqa: F401
from lefleet_server.jobs import models as _jobs  # noqa: F401
from lefleet_server.previews import models as _previews  # noqa: F401
from lefleet_server.retention import models as _retention  # noqa: F401
from lefleet_server.robots import models as _robots  # noqa: F401
from lefleet_server.sets import models as _sets  # noqa: F401
from lefleet_server.views import models as _views  # noqa: F401


async def test_the_migrated_schema_is_what_the_models_say(services):
    def differences(connection):
        return compare_metadata(MigrationContext.configure(connection), Base.metadata)

    async with services.db.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_twice_changes_nothing(services):
    before, after = await schema.migrate(services.db.engine)
    assert before == after == schema.head()


async def test_another_schema_is_refused_with_the_remedy(services):
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(schema.SchemaError, match="lefleet-server migrate"):
        await schema.require_current(services.db.engine)


async def test_what_runs_goes_on_when_a_newer_release_migrated_and_what_starts_says_it_is_too_old(services, anonymous):
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert (await anonymous.get("/readyz")).status_code == 200
    with pytest.raises(schema.SchemaError, match=r"9999.*newer release"):
        await schema.require_current(services.db.engine)


async def test_an_empty_database_is_migrated_from_nothing(services):
    async with services.db.transaction() as session:
        await session.execute(text("DROP SCHEMA public CASCADE"))
        await session.execute(text("CREATE SCHEMA public"))
    with pytest.raises(schema.SchemaError, match="at nothing"):
        await schema.require_current(services.db.engine)
    assert await schema.migrate(services.db.engine) == (None, schema.head())
