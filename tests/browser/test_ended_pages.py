"""A page that is open when its log-in ends leaves by itself; nobody has to load it anew for that."""

import uuid
from datetime import timedelta
from functools import partial

import asyncpg
import httpx
import pytest
from served import PASSWORD
from sqlalchemy import select, update

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts import sessions
from lefleet_server.accounts.models import LoginSession, Role, User
from lefleet_server.db import utc_now

NAME = "ended"
ENDED = "Your log-in has ended"


@pytest.fixture(scope="module")
def server(serve):
    return serve(NAME)


@pytest.fixture
def guest(server):
    """A new person's name."""
    name = f"eve-{uuid.uuid4().hex[:6]}"
    server.do(partial(accounts.put_user, username=name, role=Role.ADMIN, password=PASSWORD, actor="test"))
    return name


async def the_log_ins_are_ended(session, name):
    user = (await session.scalars(select(User).where(User.username == name))).one()
    await sessions.end_sessions(session, user, "user:root")


async def the_time_is_over(session, name):
    of_user = select(User.id).where(User.username == name).scalar_subquery()
    past = utc_now() - timedelta(seconds=1)
    await session.execute(update(LoginSession).where(LoginSession.user_id == of_user).values(expires_at=past))


async def the_account_is_gone(session, name):
    await session.delete((await session.scalars(select(User).where(User.username == name))).one())


async def mark(viewer):
    """A page that is loaded anew has no mark."""
    await viewer.page.evaluate("window.marked = true")


async def is_marked(viewer):
    return await viewer.page.evaluate("window.marked === true")


@pytest.mark.parametrize("end", [the_log_ins_are_ended, the_time_is_over, the_account_is_gone])
async def test_an_open_page_leaves_when_its_log_in_ends_and_others_stay(server, look, guest, end):
    leaving, staying = await look(server.url, guest), await look(server.url)
    await leaving.open("/jobs")
    await staying.open("/jobs")
    await mark(staying)
    server.do(partial(end, name=guest))
    await leaving.page.wait_for_url(f"{server.url}/login?next=/jobs")
    assert ENDED in await leaving.page.inner_text("[role=alert]")
    await leaving.shot(f"ended-{end.__name__}")
    assert await is_marked(staying)
    assert staying.page.url == f"{server.url}/jobs"


async def test_who_is_disabled_on_the_people_page_is_out_of_all_open_pages(server, look, guest):
    admin, leaving = await look(server.url, "root"), await look(server.url, guest)
    second = await leaving.page.context.new_page()
    await leaving.open("/")
    await second.goto(f"{server.url}/storage")
    await second.wait_for_function("window.did_handshake === true")
    await admin.open(f"/people/{guest}")
    await mark(admin)
    await admin.page.click("button:has-text('Disable')")
    await admin.page.wait_for_selector("text=within seconds")
    await admin.page.click(".lf-question .is-danger")
    await leaving.page.wait_for_url(f"{server.url}/login")
    await second.wait_for_url(f"{server.url}/login?next=/storage")
    assert await is_marked(admin)


async def test_a_page_is_drawn_anew_for_who_may_do_less_now(server, look, guest):
    viewer, other = await look(server.url, guest), await look(server.url, "root")
    await viewer.open("/jobs")
    await other.open("/jobs")
    await mark(other)
    assert not await viewer.page.is_disabled("text=Retry all dead")
    server.do(partial(accounts.change_user, username=guest, role=Role.VIEWER, disabled=None, actor="user:root"))
    await viewer.page.wait_for_selector(".lf-person-role >> text=viewer")
    assert viewer.page.url == f"{server.url}/jobs"
    assert not await viewer.page.locator(".lf-links >> text=Audit").count()
    await viewer.shot("ended-demoted")
    assert await is_marked(other)


async def test_a_browser_that_does_not_leave_is_told_nothing_more(server, look, guest):
    stubborn, other = await look(server.url, guest), await look(server.url)
    await stubborn.open("/")
    await other.open("/")
    asked = []

    async def refuse(route):
        asked.append(route.request.url)
        await route.abort("aborted")  # the page stays as it is

    await stubborn.page.route(f"{server.url}/", refuse)
    server.do(partial(the_log_ins_are_ended, name=guest))
    async with stubborn.page.expect_event("requestfailed"):
        pass
    assert asked
    server.enrol("a-new-robot").close()
    await other.page.wait_for_selector("text=a-new-robot")
    assert "a-new-robot" not in await stubborn.page.content()
    stubborn.errors.clear()


async def test_nobody_is_thrown_out_because_the_database_is_away(server, look, guest, postgres):
    async def allow(connections):
        connection = await asyncpg.connect(**postgres | {"database": "postgres"})
        await connection.execute(f"ALTER DATABASE {NAME} WITH ALLOW_CONNECTIONS {connections}")
        if not connections:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
            await connection.execute(ended, NAME)
        await connection.close()

    viewer = await look(server.url, guest)
    await viewer.open("/jobs")
    await mark(viewer)
    await allow(False)
    try:
        # Asked every 5 seconds, the log-ins every 3.
        await viewer.page.wait_for_selector("text=what you see is from before", timeout=30_000)
        assert await is_marked(viewer)
    finally:
        await allow(True)
    await viewer.page.wait_for_selector("text=what you see is from before", state="hidden", timeout=30_000)
    assert await is_marked(viewer)
    viewer.errors[:] = [error for error in viewer.errors if "503" not in error]


def test_the_reason_is_said_only_to_who_had_a_log_in(server):
    assert "set-cookie" not in httpx.get(f"{server.url}/jobs").headers
    stale = httpx.get(f"{server.url}/jobs", headers={"cookie": "lefleet_session=lf_user_nothing"})
    assert stale.headers["set-cookie"].startswith("lefleet_login_note=")
