"""Robots' credentials on the dashboard: given, changed, taken by administrators, shown once, nobody else's to see."""

from functools import partial

import httpx
import pytest
from robot_client import RobotClient
from sqlalchemy import select
from test_phone import PHONE

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import Role
from lefleet_server.audit.models import AuditEntry

PANEL = "[data-panel=credential]"
SECRET = ".lf-secret:visible"
QUESTION = ".lf-question:visible"
CODE = ".lf-question:visible:has(.lf-secret)"
STORED = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href, document.body.innerHTML])"


@pytest.fixture(scope="module")
def server(serve):
    return serve("credentials")


@pytest.fixture
def robot(server, request):
    """A robot of the test's own, at work."""
    made = server.enrol("robot-" + "".join(each for each in request.node.name if each.isalnum())[-40:].lower(), "lab")
    made.heartbeat()
    yield made
    made.close()


@pytest.fixture
def done(server):
    """What people did to a robot: actor and action, oldest first; nothing that is written down has one of `secrets`."""

    def read(robot_id: str, *secrets: str) -> list[tuple[str, str]]:
        async def entries(session):
            asked = select(AuditEntry).where(AuditEntry.subject == f"robot:{robot_id}").order_by(AuditEntry.id)
            return list(await session.scalars(asked))

        found = server.do(entries)
        log = (server.config.parent / "log").read_text()
        assert log and not [secret for secret in secrets if secret in log or secret in str([e.detail for e in found])]
        return [(each.actor, each.action) for each in found if each.actor.startswith("user:")]

    return read


async def code_on(viewer) -> str:
    """The code that is shown, taken by its button, and gone from the page afterwards."""
    page = viewer.page
    await page.wait_for_selector(SECRET)
    shown = await page.inner_text(SECRET)
    await page.click(f"{CODE} button:has-text('Copy')")
    assert await page.evaluate("navigator.clipboard.readText()") == shown
    await page.click(f"{CODE} .lf-copy")
    assert await page.evaluate("navigator.clipboard.readText()") == "sudo lefleet-agent enrol"
    await page.click(f"{CODE} >> text=Done")
    await page.wait_for_selector(SECRET, state="detached")
    assert shown not in await page.evaluate(STORED)
    return shown


def look_as_root(look, server, **options):
    return look(server.url, "root", permissions=["clipboard-read", "clipboard-write"], **options)


def is_refused(robot) -> bool:
    try:
        robot.heartbeat()
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 401
        return True
    return False


def chip(page, word: str):
    return page.wait_for_selector(f"{PANEL} .lf-chip:has-text('{word}')", timeout=15_000)


async def test_a_robot_is_added_by_a_code_that_is_shown_once(server, robot, look, done):
    viewer = await look_as_root(look, server)
    page = viewer.page
    await viewer.open("/")
    await page.click("text=Add a robot")
    for name, site, told in (
        ("Robot 7", "", "'Robot 7' is no robot's name: write up to 63 of a-z"),
        ("robot-7", "a lab", "'a lab' is no site: write up to 63 letters"),
        (robot.id, "", f"A robot named {robot.id} is enrolled already; choose another name"),
    ):
        await page.fill("[name=robot_id]", name)
        await page.fill("[name=site]", site)
        await page.click("text=Make its code")
        await page.wait_for_selector(f".q-dialog [role=alert] >> text={told}")
    await page.fill("[name=robot_id]", "robot-7")
    await page.fill("[name=site]", "lab")
    await page.press("[name=site]", "Enter")
    await page.wait_for_selector(SECRET)
    said = await page.inner_text(CODE)
    assert "within 15 minutes" in said and "never shown again" in said and "make provision LIMIT=robot-7" in said
    code = await code_on(viewer)
    made = RobotClient.enrol(server.url, "robot-7", code)
    made.heartbeat()
    await page.wait_for_selector("[data-robot=robot-7]")
    assert done("robot-7", code) == [("user:root", "robot.enrolment-code")]
    await page.click("text=Add a robot")
    assert await page.input_value("[name=robot_id]") == "", "it is the next one's form"
    made.close()


async def test_a_credential_is_rotated_without_a_gap(server, robot, look, done):
    viewer = await look_as_root(look, server)
    page = viewer.page
    await viewer.open(f"/robots/{robot.id}")
    await chip(page, "Valid")
    await page.click(f"{PANEL} >> text=Rotate")
    code = await code_on(viewer)
    await chip(page, "Rotating")
    assert "stays valid" in await page.inner_text(f"{PANEL} [data-row=Code]")
    assert not is_refused(robot), "until the code is used"
    new = RobotClient.enrol(server.url, robot.id, code)
    assert is_refused(robot)
    await chip(page, "Valid")
    await page.wait_for_selector(f"{PANEL} [data-row='Last used'] >> text=Not yet")
    new.heartbeat()
    await page.wait_for_selector(f"{PANEL} [data-row='Last used'] lf-time", timeout=15_000)
    answer = await page.request.get(f"{server.url}/api/v1/robots/{robot.id}")
    assert (await answer.json())["site"] == "lab", "it stays where it is"
    assert done(robot.id, code) == [("user:root", "robot.enrolment-code")]
    new.close()


async def test_a_renewal_by_the_robot_itself_is_seen(server, robot, look):
    viewer = await look_as_root(look, server)
    await viewer.open(f"/robots/{robot.id}")
    await chip(viewer.page, "Valid")
    new = robot.renew()
    await chip(viewer.page, "Rotating")
    assert "takes over when it is used first" in await viewer.page.inner_text(f"{PANEL} [data-row='Next one']")
    new.heartbeat()
    await chip(viewer.page, "Valid")
    new.close()


async def test_a_credential_is_revoked_at_once_and_the_robot_comes_back(server, robot, look, done):
    viewer = await look_as_root(look, server)
    page = viewer.page
    await viewer.open(f"/robots/{robot.id}")
    await page.click(f"{PANEL} >> text=Revoke")
    assert f"Revoke the credential of {robot.id}?" in await page.inner_text(QUESTION)
    assert "Its arm goes on as it does now" in await page.inner_text(QUESTION)
    await page.click(f"{QUESTION} >> text=Cancel")
    await page.wait_for_selector(".lf-question", state="hidden")
    assert not is_refused(robot)
    await page.click(f"{PANEL} >> text=Revoke")
    await page.click(f"{QUESTION} .is-danger")
    await page.wait_for_selector(f"text={robot.id} is retired.")
    await chip(page, "Revoked")
    assert is_refused(robot)
    await page.wait_for_selector(".lf-title >> text=Retired")
    assert not await page.is_visible(f"{PANEL} >> text=Rotate")
    await page.click(f"{PANEL} >> text=Bring it back")
    code = await code_on(viewer)
    back = RobotClient.enrol(server.url, robot.id, code)
    back.heartbeat()
    await page.wait_for_selector(".lf-title >> text=Running")
    await chip(page, "Valid")
    assert done(robot.id, code) == [("user:root", "robot.revoked"), ("user:root", "robot.enrolment-code")]
    back.close()


@pytest.mark.parametrize("who", ["vic", "ada"])
async def test_nobody_else_sees_what_they_may_not_do(server, robot, look, who):
    viewer = await look(server.url, who)
    await viewer.open("/")
    await viewer.page.wait_for_selector(f"[data-robot={robot.id}]")
    assert await viewer.page.locator("text=Add a robot").count() == 0
    await viewer.open(f"/robots/{robot.id}")
    assert await viewer.page.locator(PANEL).count() == 0


async def test_the_open_page_of_who_is_no_administrator_any_more_loses_it(server, robot, look):
    server.do(partial(accounts.put_user, username="was-admin", role=Role.ADMIN, password="a long word", actor="test"))
    viewer = await look(server.url, None)
    await viewer.page.goto(server.login_link("was-admin"))
    await viewer.page.wait_for_url(f"{server.url}/")
    await viewer.open(f"/robots/{robot.id}")
    await viewer.page.wait_for_selector(PANEL)
    server.do(partial(accounts.change_user, username="was-admin", role=Role.OPERATOR, actor="test"))
    await viewer.page.wait_for_selector(PANEL, state="detached")
    await viewer.page.wait_for_selector("[data-panel=work]")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
async def test_how_it_looks(server, robot, look, theme, device):
    viewer = await look_as_root(look, server, **(PHONE if device == "phone" else {}))
    page = viewer.page
    await page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": server.url}])

    async def shot(name: str) -> None:
        await page.wait_for_timeout(400)  # it fades in
        assert await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        await viewer.shot(f"{device}-credential-{name}-{theme}")

    await viewer.open("/")
    await page.click("text=Add a robot")
    await page.fill("[name=robot_id]", f"robot-{device}-{theme}")
    await shot("add")
    await page.click("text=Make its code")
    await page.wait_for_selector(SECRET)
    await shot("code")
    await page.click(f"{CODE} >> text=Done")
    await page.wait_for_selector(".lf-question", state="hidden")
    await shot("fleet")
    await viewer.open(f"/robots/{robot.id}")
    await page.click(f"{PANEL} >> text=Rotate")
    await page.click(f"{CODE} >> text=Done")
    await chip(page, "Rotating")
    await page.locator(PANEL).scroll_into_view_if_needed()
    await shot("rotating")
    await page.click(f"{PANEL} >> text=Revoke")
    await shot("revoke")
    await page.click(f"{QUESTION} .is-danger")
    await chip(page, "Revoked")
    await page.locator(PANEL).scroll_into_view_if_needed()
    await shot("revoked")
