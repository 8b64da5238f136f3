"""PostgreSQL without a free connection, or restarted under a server that has nothing to do."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
import yaml
from fastapi import FastAPI
from killable import Postgres, command

from lefleet_server.app import create_app
from lefleet_server.config import Settings, load

pytestmark = pytest.mark.faults

RECEIPT = f"/api/v1/robot/receipts/{'0' * 64}"
NOBODY = {"Authorization": "Bearer lfr_of-nobody"}


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://server", headers=NOBODY)


@pytest.fixture
async def taken(postgres: dict) -> AsyncIterator[list[asyncpg.Connection]]:
    """Every connection that PostgreSQL has, in the hands of others."""
    held: list[asyncpg.Connection] = []
    with pytest.raises(asyncpg.TooManyConnectionsError):
        while len(held) < 1000:
            held.append(await asyncpg.connect(**postgres | {"database": "postgres"}))
    yield held
    for connection in held:
        await connection.close()


async def test_without_a_free_connection_the_api_says_so_and_goes_on_by_itself_once_there_is_one(
    server_settings, taken
):
    app = create_app(Settings(**server_settings), dashboard=False)
    async with app.router.lifespan_context(app), client_of(app) as client:
        refused = await client.get(RECEIPT)
        assert refused.status_code == 503, refused.text
        assert refused.headers["retry-after"] == "2"
        assert refused.headers["content-type"] == "application/problem+json"
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert "max_connections" in ready.json()["checks"]["database"]
        assert [(await client.get(path)).status_code for path in ("/metrics", "/healthz")] == [200, 200]
        for _ in range(5):
            await taken.pop().close()
        assert (await client.get(RECEIPT)).status_code == 401
        assert (await client.get("/readyz")).status_code == 200


@pytest.fixture
def own_postgres(open_folder: Path) -> Iterator[Postgres]:
    """A migrated one of this test's own."""
    config = open_folder / "server.yml"
    config.write_text(yaml.safe_dump({"state_dir": f"{open_folder}/state", "postgres_dir": f"{open_folder}/postgres"}))
    program = Postgres(config, open_folder / "postgres.log")
    program.start()
    try:
        program.wait_ready()
        command(config, "migrate")
        yield program
    finally:
        program.stop()
        command(config, "postgres", "--erase")


async def test_a_postgresql_that_died_and_came_back_under_an_idle_server_costs_no_request(own_postgres):
    app = create_app(load(own_postgres.config), dashboard=False)
    async with app.router.lifespan_context(app), client_of(app) as client:

        async def many() -> set[int]:
            return {answer.status_code for answer in await asyncio.gather(*(client.get(RECEIPT) for _ in range(20)))}

        assert await many() == {401}
        own_postgres.kill()
        assert await many() == {503}
        assert (await client.get("/readyz")).json()["checks"]["database"] == "does not answer"
        own_postgres.start()
        await asyncio.to_thread(own_postgres.wait_ready)
        assert await many() == {401}
