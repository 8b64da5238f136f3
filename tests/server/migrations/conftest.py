"""An empty database of the release before a migration, and connections to it beside the server's own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from lefleet_server import schema
from lefleet_server.config import Settings
from lefleet_server.db import Database


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Callable[[], Awaitable[asyncpg.Connection]]]:
    opened: list[asyncpg.Connection] = []

    async def make() -> asyncpg.Connection:
        opened.append(await asyncpg.connect(database_url))
        return opened[-1]

    yield make
    for connection in opened:
        await connection.close()


@pytest.fixture
async def db(database_url: str, connect: Callable, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Of the revision that the test's module calls BEFORE."""
    await (await connect()).execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    db = Database(Settings(state_dir=Path("unused"), database_url=database_url))
    await schema.migrate(db.engine, request.module.BEFORE)
    yield db
    await db.close()
