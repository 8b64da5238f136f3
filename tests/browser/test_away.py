"""The database goes away under open pages: they say so, change nothing, and go on by themselves."""

import time
from contextlib import asynccontextmanager

import asyncpg
import drawn_episode
import pytest
from drawn_episode import Drawing
from test_phone import PHONE

NAME = "away"
OLD = "text=what you see is from before"
FADED_IN = ".q-notification:not([class*=enter-active])"


@pytest.fixture(scope="module")
def server(serve):
    return serve(NAME)


@pytest.fixture(scope="module")
def robot(server, tmp_path_factory):
    """One that runs, and has an episode."""
    made = server.enrol("robot-1")
    made.upload(drawn_episode.write(tmp_path_factory.mktemp("episode"), Drawing("robot-1", time.time_ns())))
    made.heartbeat()
    yield made
    made.close()


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


@pytest.fixture
def away(database):
    """`async with away(viewer):` the database is away; after it the viewer's page goes on by itself."""

    @asynccontextmanager
    async def during(viewer):
        await database(False)
        try:
            await viewer.page.wait_for_selector(OLD, timeout=30_000)
            assert "last read" in await viewer.page.inner_text(".lf-old")
            yield
        finally:
            await database(True)
        await viewer.page.wait_for_selector(OLD, state="hidden", timeout=60_000)
        viewer.errors[:] = [error for error in viewer.errors if "503" not in error]

    return during


@pytest.mark.parametrize("path", ["/", "/robots/robot-1"], ids=["fleet", "robot"])
@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
async def test_an_emergency_stop_that_did_not_happen_says_so_and_what_to_do(
    server, robot, look, away, path, options, request
):
    viewer = await look(server.url, **options)
    if options:
        cookie = {"name": "lefleet_theme", "value": "light", "url": server.url}
        await viewer.page.context.add_cookies([cookie])
    await viewer.open(path)
    robot.heartbeat(estop={"wish": robot.wish()["number"], "holds": False})
    await viewer.page.wait_for_selector("[aria-label='Emergency stop of robot-1']")
    before = robot.wish()
    async with away(viewer):
        assert not await viewer.page.is_visible(".lf-live")
        await viewer.page.click("[aria-label='Emergency stop of robot-1']")
        await viewer.page.wait_for_selector("text=robot-1: NOT stopped")
        said = await viewer.page.inner_text(".q-notification")
        assert "does not answer" in said and "its own stop or its power" in said and "press again" in said
        await viewer.page.wait_for_selector(FADED_IN)
        await viewer.shot(f"away-{request.node.callspec.id}")
    assert robot.wish() == before
    assert path != "/" or await viewer.page.is_visible(".lf-live")
    await viewer.page.click("[aria-label='Emergency stop of robot-1']")
    await viewer.page.wait_for_selector("[data-stop=stopping]")
    await viewer.page.wait_for_selector("text=robot-1: NOT stopped", state="detached")
    assert robot.wish()["wanted"]


async def test_a_label_that_was_not_saved_says_so(server, robot, look, away):
    viewer = await look(server.url)
    await viewer.open("/episodes")
    async with away(viewer):
        await viewer.page.keyboard.press("j")
        await viewer.page.keyboard.press("f")
        await viewer.page.wait_for_selector("text=Nothing was changed; try again in a moment")
        await viewer.page.wait_for_selector(FADED_IN)
        await viewer.shot("away-label")
    await viewer.page.keyboard.press("f")
    await viewer.page.wait_for_selector(".lf-row >> text=labelled")


async def test_an_open_page_says_that_it_is_old_and_goes_on_by_itself(server, look, database):
    admin = await look(server.url, "root")
    page = admin.page
    await admin.open("/jobs")
    assert not await page.is_visible(OLD)
    people = await look(server.url, "root")
    await people.open("/people/vic")
    await database(False)
    try:
        await page.wait_for_selector(OLD, timeout=30_000)
        await admin.shot("jobs-away")
        await people.page.click(".lf-roles >> text=Admin")
        await people.page.wait_for_selector("text=Nothing was changed; try again in a moment")
        assert await people.page.inner_text(".lf-roles [aria-pressed=true]") == "Viewer"
    finally:
        await database(True)
    await page.wait_for_selector(OLD, state="hidden", timeout=30_000)
    await people.page.click(".lf-roles >> text=Operator")
    await people.page.wait_for_selector(".lf-roles [aria-pressed=true] >> text=Operator")
    for viewer in (admin, people):
        viewer.errors[:] = [error for error in viewer.errors if "503" not in error]
