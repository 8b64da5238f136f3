"""The database goes away under open pages: they say so, change nothing, and go on by themselves."""

import time
import uuid
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import drawn_episode
import pytest
from drawn_episode import Drawing
from sqlalchemy import func, select, update
from test_phone import PHONE

from lefleet_server.audit.models import AuditEntry
from lefleet_server.jobs.models import Job
from lefleet_server.robots import stops

NAME = "away"
OLD = "text=what you see is from before"
NOTHING = "text=Nothing was changed; try again in a moment"
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


STOPPED = "[data-stop=stopped]"


def obey(robot) -> None:
    """What the arm does about the newest stop or release."""
    newest = robot.wish()
    state = "estopped" if newest["wanted"] else "running"
    robot.heartbeat(state=state, estop={"wish": newest["number"], "holds": newest["wanted"]})


@pytest.mark.parametrize("path", ["/", "/robots/robot-1"], ids=["fleet", "robot"])
async def test_a_release_that_did_not_happen_says_so_and_the_arm_stays_stopped(server, robot, look, away, path):
    server.do(partial(stops.stop, actor="test", robot_id="robot-1"))
    obey(robot)
    viewer = await look(server.url)
    page = viewer.page
    await viewer.open(path)
    await page.wait_for_selector(STOPPED)
    async with away(viewer):
        await page.click("[aria-label='Release robot-1']")
        await page.click(".lf-question:visible .is-primary")
        await page.wait_for_selector("text=robot-1: NOT released")
        said = await page.inner_text(".q-notification")
        assert "does not answer" in said and "Stay clear of the arm" in said
        assert await page.is_visible(STOPPED)
        await page.wait_for_selector(FADED_IN)
        await viewer.shot(f"away-release-{'fleet' if path == '/' else 'robot'}")
    assert robot.wish()["wanted"]
    await page.click("[aria-label='Release robot-1']")
    await page.click(".lf-question:visible .is-primary")
    await page.wait_for_selector("text=robot-1: NOT released", state="detached")
    await page.wait_for_selector("[data-stop=releasing]")
    obey(robot)
    assert not robot.wish()["wanted"]


async def test_a_stop_of_all_that_did_not_happen_says_so(server, robot, look, away):
    obey(robot)
    before = robot.wish()
    viewer = await look(server.url)
    page = viewer.page
    await viewer.open("/")
    async with away(viewer):
        await page.click("[aria-label='Emergency stop of all robots']")
        await page.wait_for_selector("text=The fleet: NOT stopped")
        assert "its own stop or its power" in await page.inner_text(".q-notification")
        await page.wait_for_selector(FADED_IN)
        await viewer.shot("away-stop-all")
    assert robot.wish() == before
    await page.click("[aria-label='Emergency stop of all robots']")
    await page.wait_for_selector("[data-stop=stopping]")
    await page.wait_for_selector("text=The fleet: NOT stopped", state="detached")
    assert robot.wish()["wanted"]
    server.do(partial(stops.release, actor="test", robot_id="robot-1", number=robot.wish()["number"]))
    obey(robot)


@pytest.mark.parametrize("path", ["/", "/robots/robot-1"], ids=["fleet", "robot"])
async def test_a_verdict_that_was_not_taken_says_so_and_can_be_given_again(server, robot, look, away, path):
    episode = uuid.uuid4().hex
    viewer = await look(server.url)
    page = viewer.page
    await viewer.open(path)
    robot.heartbeat(episode_id=episode)
    success = ".lf-verdict button:has-text('Success')"
    await page.wait_for_selector(success)
    async with away(viewer):
        await page.click(success)
        await page.wait_for_selector(NOTHING)
        assert await page.is_visible(success), "nothing says that it is ending"
    said = robot.verdict()
    assert said is None or said["episode_id"] != episode
    robot.heartbeat(episode_id=episode)
    await page.click(success)
    await page.wait_for_selector(".lf-verdict >> text=Ending: success")
    assert robot.verdict()["episode_id"] == episode
    robot.heartbeat()


async def test_notes_that_were_not_saved_stay_in_their_editor(server, robot, look, away):
    viewer = await look(server.url)
    page = viewer.page
    await viewer.open("/robots/robot-1")
    await page.click(".lf-notes >> text=Edit")
    await page.fill(".lf-notes textarea", "The elbow slips.")
    async with away(viewer):
        await page.click(".lf-notes >> text=Save")
        await page.wait_for_selector(NOTHING)
        assert await page.input_value(".lf-notes textarea") == "The elbow slips."
        await page.wait_for_selector(FADED_IN)
        await viewer.shot("away-notes")
    await page.click(".lf-notes >> text=Save")
    await page.wait_for_selector(".lf-markdown >> text=The elbow slips.")


async def test_a_view_that_was_not_saved_or_not_deleted_says_so(server, robot, look, away):
    async def save() -> None:
        await page.click("text=Save view")
        await page.fill("[aria-label='Name of the view']", "Mine")
        await page.keyboard.press("Enter")

    viewer = await look(server.url)
    page = viewer.page
    await viewer.open("/?q=robot")
    async with away(viewer):
        await save()
        await page.wait_for_selector(NOTHING)
        assert not await page.is_visible("[aria-label=View]")
    await save()
    await page.wait_for_selector("[aria-label=View] >> text=Mine", state="attached")
    await page.wait_for_selector(NOTHING, state="detached")
    async with away(viewer):
        await page.click("text=Delete view")
        await page.wait_for_selector(NOTHING)
        assert await page.is_visible("text=Delete view")
    await page.click("text=Delete view")
    await page.wait_for_selector("[aria-label=View]", state="hidden")


async def test_a_credential_that_was_not_touched_says_so(server, robot, look, away):
    viewer = await look(server.url, "root")
    page = viewer.page
    await viewer.open("/robots/robot-1")
    panel = "[data-panel=credential]"
    async with away(viewer):
        await page.click(f"{panel} >> text=Rotate")
        await page.wait_for_selector(NOTHING)
        assert not await page.is_visible(".lf-secret")
        await page.wait_for_selector(NOTHING, state="detached")
        await page.click(f"{panel} >> text=Revoke")
        await page.click(".lf-question:visible .is-danger")
        await page.wait_for_selector(NOTHING)
        assert await page.is_visible(f"{panel} >> text=Valid")
    robot.heartbeat()


async def test_filters_that_could_not_be_read_say_that_the_list_is_old_and_are_asked_again(
    server, robot, look, database
):
    """The log does not refresh itself, so what is chosen there is the first thing that fails."""
    admin = await look(server.url, "root")
    page = admin.page
    await admin.open("/audit")
    everything = await page.locator("[data-entry]").count()
    await database(False)
    try:
        assert not await page.is_visible(OLD)
        await page.select_option("[aria-label=What]", "robot")
        await page.wait_for_selector(OLD)
        assert "last read" in await page.inner_text(".lf-old")
        assert await page.locator("[data-entry]").count() == everything
        await admin.shot("away-audit")
    finally:
        await database(True)
    await page.wait_for_selector(OLD, state="hidden", timeout=30_000)
    await page.wait_for_selector("[data-action^=user]", state="detached")
    assert await page.locator("[data-action^=robot]").count()
    admin.errors.clear()


ADD_PERSON = (
    ("click", "text=Add a person"),
    ("fill", "[name=username]", "zoe"),
    ("click", "text=Add and make a link"),
)
NEW_TOKEN = (("click", "text=New token"), ("fill", "[name=name]", "ci"), ("click", "text=Make the token"))
NEW_SET = (("fill", "[aria-label=Name]", "mine"), ("click", "text=Create"))
ADD_ROBOT = (("click", "text=Add a robot"), ("fill", "[name=robot_id]", "robot-8"), ("click", "text=Make its code"))
HOLD = (
    ("click", ".lf-hold button:has-text('Hold')"),
    ("fill", "[name=reason]:visible", "a court asks"),
    ("click", ".lf-question:visible .is-primary"),
)
RETRY = (("click", "text=Retry all dead"), ("click", ".lf-question:visible >> text=Retry all >> nth=-1"))


@pytest.mark.parametrize(
    ("path", "presses"),
    [
        ("/", ADD_ROBOT),
        ("/robots/robot-1", HOLD),
        ("/people", ADD_PERSON),
        ("/people/vic", (("click", "text=Make a log-in link"),)),
        ("/tokens", NEW_TOKEN),
        ("/sets", NEW_SET),
        ("/storage", (("click", "text=What would go now"),)),
        ("/jobs", RETRY),
    ],
    ids=["robot", "hold", "person", "link", "token", "set", "plan", "retry"],
)
async def test_whatever_is_pressed_changes_nothing_and_says_so(server, robot, look, database, path, presses, request):
    server.do(kill_jobs)
    admin = await look(server.url, "root")
    await admin.open(path)
    before = server.do(newest)
    await database(False)
    try:
        for press, *arguments in presses:
            await getattr(admin.page, press)(*arguments)
        await admin.page.wait_for_selector(NOTHING)
        await admin.page.wait_for_timeout(400)  # it fades in
        await admin.shot(f"away-press-{request.node.callspec.id}")
        assert not await admin.page.is_visible(".lf-secret")
    finally:
        await database(True)
    assert server.do(newest) == before
    admin.errors.clear()


async def newest(session) -> int:
    return await session.scalar(select(func.max(AuditEntry.id)))


async def kill_jobs(session) -> None:
    await session.execute(update(Job).values(state="dead", reason="a test"))


async def test_a_label_that_was_not_saved_says_so(server, robot, look, away):
    viewer = await look(server.url)
    await viewer.open("/episodes")
    async with away(viewer):
        await viewer.page.keyboard.press("j")
        await viewer.page.keyboard.press("f")
        await viewer.page.wait_for_selector(NOTHING)
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
        await people.page.wait_for_selector(NOTHING)
        assert await people.page.inner_text(".lf-roles [aria-pressed=true]") == "Viewer"
    finally:
        await database(True)
    await page.wait_for_selector(OLD, state="hidden", timeout=30_000)
    await people.page.click(".lf-roles >> text=Operator")
    await people.page.wait_for_selector(".lf-roles [aria-pressed=true] >> text=Operator")
    for viewer in (admin, people):
        viewer.errors[:] = [error for error in viewer.errors if "503" not in error]
