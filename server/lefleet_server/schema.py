"""The schema's version: bringing a database up to date, and telling whether it is."""

import asyncio
from pathlib import Path
from typing import Any, cast

import asyncpg  # type: ignore[import-untyped]
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from lefleet_server.cluster import DATABASE
from lefleet_server.config import Settings
from lefleet_server.db import connection_arguments

_LOCK = 0x1EF1EE7
"""Key of the advisory lock that keeps two migrations apart."""

TIMEOUTS = ("SET lock_timeout = '5s'", "SET statement_timeout = '60s'")
"""Of every migration, unless it says otherwise itself: what it waits for, everything that the running server asks of
the same table waits for too."""


class SchemaError(Exception):
    """The database's schema is not the one this program was written for."""


def head() -> str:
    """The newest revision this program knows."""
    return cast(str, ScriptDirectory.from_config(_config()).get_current_head())


async def current(engine: AsyncEngine) -> str | None:
    """The database's revision; None when it has none of our tables."""
    async with engine.connect() as connection:
        return await connection.run_sync(lambda c: MigrationContext.configure(c).get_current_revision())


async def require_current(engine: AsyncEngine, *, or_newer: bool = False) -> None:
    """Raises SchemaError unless the database is at `head`.

    `or_newer`: what runs already goes on when a newer release has migrated the database; its migrations see to that.
    """
    found, wanted = await current(engine), head()
    newer = found is not None and found > wanted  # revisions are numbers of four digits
    if found == wanted or (newer and or_newer):
        return
    if newer:
        raise SchemaError(
            f"database: schema is at {found}, this server knows it up to {wanted}; start the newer release that "
            "migrated it, or restore the backup from before"
        )
    raise SchemaError(
        f"database: schema is at {found or 'nothing'}, this server needs {wanted}; run `lefleet-server migrate`"
    )


async def migrate(engine: AsyncEngine, to: str = "head") -> tuple[str | None, str]:
    """Brings the schema to the newest revision, or only `to` an older one; returns the revisions before and after.

    Each migration is committed by itself: one that fails leaves those before it, and the next call goes on there.
    """
    async with engine.connect() as connection:
        try:
            await _be_alone(connection)
            for each in TIMEOUTS:
                await connection.execute(text(each))
            await connection.commit()
            return await connection.run_sync(_upgrade, to)
        finally:
            # Ends the session, and with it the advisory lock and what was set, also after a failure in the middle.
            await connection.invalidate()


async def _be_alone(connection: AsyncConnection) -> None:
    """Waits until no other migration runs.

    Asks again and again: a transaction that waits for the lock would be waited for by CREATE INDEX CONCURRENTLY.
    """
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
        await connection.rollback()
        await asyncio.sleep(0.2)


async def ensure_database(settings: Settings) -> None:
    """Creates the embedded server's database; others are created by whoever runs them."""
    if settings.postgres_dir is None:
        return
    connection = await asyncpg.connect(**connection_arguments(settings, database="postgres"))
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()


def _upgrade(connection: Connection, to: str) -> tuple[str | None, str]:
    before = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()  # reading began a transaction; each migration begins its own
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)
    return before, head() if to == "head" else to


def _config(**options: Any) -> Config:
    config = Config(**options)
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
