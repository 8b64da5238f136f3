"""The database goes away under open pages: they say so, change nothing, and go on by themselves."""

import asyncpg
import pytest

NAME = "away"


@pytest.fixture(scope="module")
def server(serve):
    return serve(NAME)


@pytest.fixture
def database(postgres):
    """`await database(False)` ends every connection of the server and lets it make none."""

    async def allow(connections: bool) -> None:
        connection = await asyncpg.connect(**postgres | {"database": "postgres"})
        await connection.execute(f"ALTER DATABASE {NAME} WITH ALLOW_CONNECTIONS {connections}")
        if not connections:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
            await connection.execute(ended, NAME)
        await connection.close()

    return allow


async def test_an_open_page_says_that_it_is_old_and_goes_on_by_itself(server, look, database):
    admin = await look(server.url, "root")
    page = admin.page
    await admin.open("/jobs")
    assert not await page.is_visible("text=what you see is from before")
    people = await look(server.url, "root")
    await people.open("/people/vic")
    await database(False)
    try:
        await page.wait_for_selector("text=what you see is from before", timeout=30_000)
        await admin.shot("jobs-away")
        await people.page.click(".lf-roles >> text=Admin")
        await people.page.wait_for_selector("text=Nothing was changed; try again in a moment")
        assert await people.page.inner_text(".lf-roles [aria-pressed=true]") == "Viewer"
    finally:
        await database(True)
    await page.wait_for_selector("text=what you see is from before", state="hidden", timeout=30_000)
    await people.page.click(".lf-roles >> text=Operator")
    await people.page.wait_for_selector(".lf-roles [aria-pressed=true] >> text=Operator")
    for viewer in (admin, people):
        viewer.errors[:] = [error for error in viewer.errors if "503" not in error]
