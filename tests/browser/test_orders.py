"""Rest and the task on a robot's page: ordered, heard, taken back; with a viewer's eyes; on a phone."""

from functools import partial

import pytest
from sqlalchemy import select
from test_phone import PHONE

from lefleet_server.audit.models import AuditEntry
from lefleet_server.robots import service as robots

PANEL = "[data-panel=work]"
LET_REST, GO_ON = f"{PANEL} button:has-text('Let it rest')", f"{PANEL} button:has-text('Let it go on')"
CHANGE = f"{PANEL} button:has-text('Change the task')"
YES = ".lf-question .is-danger:visible"
WHY = "The camera is being cleaned"


@pytest.fixture(scope="module")
def server(serve):
    """One of its own: what is ordered here is no other module's."""
    return serve("orders")


@pytest.fixture
def robot(server, request):
    """A robot at work that nobody ordered anything yet."""
    made = server.enrol("robot-" + "".join(each for each in request.node.name if each.isalnum())[-40:].lower())
    obey(made)
    yield made
    made.close()


def obey(robot, **changes) -> None:
    """What courier and control do about the newest words."""
    newest = robot.orders()
    rest, task = newest["rest"] or {"number": 0, "wanted": False}, newest["task"] or {"number": 0, "text": None}
    orders = {"rest": rest["number"], "rests": rest["wanted"], "task": task["number"]}
    said = {
        "state": "drained" if rest["wanted"] else "running",
        "orders": orders,
        "task": task["text"] or "Put the block on the disc",
    }
    robot.heartbeat(**said | changes)


async def give_rest(page, why: str = WHY) -> None:
    await page.click(LET_REST)
    await page.fill("input[name=reason]:visible", why)
    await page.press("input[name=reason]:visible", "Enter")


def is_shown(page, word: str):
    return page.wait_for_selector(f"{PANEL} .lf-chip:has-text('{word}')")


async def test_a_robot_is_sent_to_rest_for_a_reason_and_goes_on_after_a_question(server, robot, look):
    viewer = await look(server.url)
    page, panel = viewer.page, viewer.page.locator(PANEL)
    await viewer.open(f"/robots/{robot.id}")
    await page.click(LET_REST)
    await page.click(".lf-question:visible >> text=Cancel")
    await page.wait_for_selector(".lf-question", state="hidden")
    assert robot.orders()["rest"] is None, "nobody said yes"
    await give_rest(page)
    await is_shown(page, "Will rest")
    text = await panel.inner_text()
    assert WHY in text and "By ada" in text and "not heard yet" in text
    assert robot.orders()["rest"]["wanted"]
    obey(robot, state="running")
    await page.wait_for_selector(f"{PANEL} >> text=after this episode")
    await is_shown(page, "Will rest")
    obey(robot)
    await is_shown(page, "Resting")
    assert "not heard yet" not in await panel.inner_text()
    await page.click(GO_ON)
    await page.click(".lf-question:visible >> text=Cancel")
    await page.wait_for_selector(".lf-question", state="hidden")
    assert robot.orders()["rest"]["wanted"], "nobody said yes"
    await page.click(GO_ON)
    await page.click(YES)
    await is_shown(page, "Will go on")
    obey(robot)
    await page.wait_for_selector(f"{PANEL} .lf-chip", state="hidden")
    assert await page.is_visible(LET_REST) and not robot.orders()["rest"]["wanted"]
    await page.wait_for_selector(f".lf-event:has-text('Rest asked for {WHY}')", timeout=15_000)
    assert server.do(audited(f"robot:{robot.id}")) == [
        ("user:ada", "robot.rest", {"rest": True, "reason": WHY}),
        ("user:ada", "robot.rest", {"rest": False}),
    ]


def audited(subject: str):
    async def read(session):
        asked = select(AuditEntry).where(AuditEntry.subject == subject, AuditEntry.actor == "user:ada")
        return [(each.actor, each.action, each.detail) for each in await session.scalars(asked.order_by(AuditEntry.id))]

    return read


async def test_a_task_is_given_and_taken_back(server, robot, look):
    viewer = await look(server.url)
    page = viewer.page
    await viewer.open(f"/robots/{robot.id}")
    assert "Put the block on the disc" in await page.inner_text(f"{PANEL} [data-row=Task]")
    await page.click(CHANGE)
    await page.fill("input[name=text]", "Sort the bolts")
    await page.press("input[name=text]", "Enter")
    await page.wait_for_selector(f"{PANEL} [data-row='Next task']:has-text('Sort the bolts')")
    assert robot.orders()["task"]["text"] == "Sort the bolts"
    obey(robot, task="Put the block on the disc")
    await page.wait_for_selector(f"{PANEL} >> text=from its next episode on")
    obey(robot)
    await page.wait_for_selector(f"{PANEL} [data-row=Task]:has-text('Sort the bolts')")
    await page.wait_for_selector(f"{PANEL} [data-row='Next task']", state="hidden")
    await page.click(CHANGE)
    assert await page.input_value("input[name=text]") == "Sort the bolts", "what is ordered is there to be changed"
    await page.fill("input[name=text]", "")
    await page.press("input[name=text]", "Enter")
    await page.wait_for_selector(f"{PANEL} [data-row='Next task']:has-text('What its settings say')")
    assert robot.orders()["task"]["text"] is None


async def test_what_is_typed_outlives_the_refresh_and_what_others_order(server, robot, look):
    viewer, other = await look(server.url), await look(server.url)
    page = viewer.page
    for each in (viewer, other):
        await each.open(f"/robots/{robot.id}")
    await page.click(CHANGE)
    await page.locator("input[name=text]").press_sequentially("Sort the bo")
    await other.page.click(CHANGE)
    await other.page.fill("input[name=text]", "Fold the towel")
    await other.page.press("input[name=text]", "Enter")
    await page.wait_for_selector(f"{PANEL} [data-row='Next task']:has-text('Fold the towel')")
    obey(robot)
    await page.wait_for_selector(f"{PANEL} [data-row=Task]:has-text('Fold the towel')")
    assert await page.input_value("input[name=text]") == "Sort the bo"
    await page.locator("input[name=text]").press_sequentially("lts")
    await page.press("input[name=text]", "Enter")
    await page.wait_for_selector(f"{PANEL} [data-row='Next task']:has-text('Sort the bolts')")
    await page.click(LET_REST)
    await page.locator("input[name=reason]:visible").press_sequentially("New gri")
    obey(robot, task="Sort the nuts")
    await page.wait_for_selector(f"{PANEL} [data-row=Task]:has-text('Sort the nuts')")
    assert await page.input_value("input[name=reason]:visible") == "New gri"


async def test_a_refused_order_leaves_its_form_open_with_what_was_typed(server, robot, look):
    viewer = await look(server.url)
    page = viewer.page
    await viewer.open(f"/robots/{robot.id}")
    await page.click(CHANGE)
    await page.fill("input[name=text]", "Sort the bolts")
    server.do(partial(robots.revoke, robot_id=robot.id, actor="test"))
    await page.press("input[name=text]", "Enter")
    await page.wait_for_selector(f".lf-question .lf-note:has-text('{robot.id} is retired')")
    assert await page.input_value("input[name=text]") == "Sort the bolts"
    await page.wait_for_selector(PANEL, state="hidden")


async def test_a_viewer_sees_and_cannot_press(server, robot, look):
    operator, viewer = await look(server.url), await look(server.url, "vic")
    for each in (operator, viewer):
        await each.open(f"/robots/{robot.id}")
    for press in (LET_REST, CHANGE):
        assert await viewer.page.is_disabled(press)
        assert await viewer.page.get_attribute(press, "title") == "Rest, tasks and reboots need the role operator"
    await give_rest(operator.page)
    await viewer.page.wait_for_selector(f"{PANEL} >> text={WHY}")
    assert await viewer.page.is_disabled(GO_ON)
    await viewer.shot("desk-orders-viewer")


async def test_what_keeps_a_robot_from_obeying_is_said(server, robot, look):
    viewer = await look(server.url)
    page = viewer.page
    robot.heartbeat()  # as an agent does that knows of no orders
    await viewer.open(f"/robots/{robot.id}")
    await page.wait_for_selector(f"{PANEL} >> text=Its agent tells nothing of orders")
    await viewer.shot("desk-orders-too-old")
    server.silence(robot.id)
    await page.wait_for_selector(f"{PANEL} >> text=It is offline")
    await give_rest(page)  # which changes nothing of what the fleet's page shows
    await is_shown(page, "Will rest")
    await viewer.shot("desk-orders-offline")
    obey(robot)
    await is_shown(page, "Resting")
    await page.wait_for_selector(f"{PANEL} >> text=It is offline", state="hidden")
    await page.click(GO_ON)
    await page.click(YES)
    await is_shown(page, "Will go on")
    obey(robot, state="drained")
    await page.wait_for_selector(f"{PANEL} >> text=Asked for at the robot")
    await viewer.shot("desk-orders-at-the-robot")


async def test_a_robot_that_never_spoke_can_be_ordered(server, look):
    server.enrol("robot-silent").close()
    viewer = await look(server.url)
    await viewer.open("/robots/robot-silent")
    await viewer.page.wait_for_selector(f"{PANEL} >> text=It was never heard of")
    await give_rest(viewer.page)
    await is_shown(viewer.page, "Will rest")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
async def test_how_it_looks(server, robot, look, theme, device):
    viewer = await look(server.url, **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": server.url}])
    await viewer.open(f"/robots/{robot.id}")
    page = viewer.page

    async def shot(name: str) -> None:
        await page.locator(PANEL).scroll_into_view_if_needed()
        assert await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        await viewer.shot(f"{device}-orders-{name}-{theme}")

    for press in (LET_REST, CHANGE):
        await page.locator(press).scroll_into_view_if_needed()
        assert (await page.locator(press).bounding_box())["height"] >= (44 if device == "phone" else 30)
    obey(robot)
    await shot("works")
    await page.click(LET_REST)
    await page.wait_for_function("document.activeElement.name === 'reason'")  # typed at once
    await page.wait_for_timeout(500)  # it fades in
    await viewer.shot(f"{device}-orders-why-{theme}")
    await page.fill("input[name=reason]:visible", f"{WHY}, and the gripper's fingers are printed anew until Thursday")
    await page.press("input[name=reason]:visible", "Enter")
    await is_shown(page, "Will rest")
    await page.click(CHANGE)
    await page.fill("input[name=text]", "Sort the bolts by their length, the longest into the box on the left")
    await page.wait_for_timeout(500)
    await viewer.shot(f"{device}-orders-task-{theme}")
    await page.press("input[name=text]", "Enter")
    await page.wait_for_selector(f"{PANEL} [data-row='Next task']:has-text('Sort the bolts')")
    await page.wait_for_selector(".lf-question", state="hidden")
    obey(robot, state="running", orders={"rest": 0, "task": 0, "rests": False}, task="Put the block on the disc")
    await shot("asked")
    obey(robot)
    await is_shown(page, "Resting")
    await page.wait_for_selector(f"{PANEL} [data-row='Next task']", state="hidden")
    await shot("rests")
    await page.click(GO_ON)
    await page.wait_for_timeout(500)
    await viewer.shot(f"{device}-orders-question-{theme}")
    await page.click(YES)
    await is_shown(page, "Will go on")
    obey(robot, orders={"reboot": 0}, uptime_s=7300.0)
    await page.click(f"{PANEL} button:has-text('Reboot')")
    await page.fill("input[name=reason]:visible", "The GPU's driver hangs")
    await page.wait_for_timeout(500)
    await viewer.shot(f"{device}-orders-reboot-why-{theme}")
    await page.press("input[name=reason]:visible", "Enter")
    await page.wait_for_selector(f"{PANEL} [data-row=Reboot]:has-text('not heard yet')")
    await page.wait_for_selector(".lf-question", state="hidden")
    await shot("reboot")


async def test_a_host_is_rebooted_for_a_reason_and_is_seen_to_be_up_again(server, robot, look):
    viewer = await look(server.url)
    page, reboot, row = viewer.page, f"{PANEL} button:has-text('Reboot')", f"{PANEL} [data-row=Reboot]"
    await viewer.open(f"/robots/{robot.id}")
    await page.wait_for_selector(LET_REST)
    assert not await page.is_visible(reboot), "its host would not"
    obey(robot, orders={"reboot": 0}, uptime_s=7300.0)
    await page.click(reboot)
    await page.fill("input[name=reason]:visible", "The GPU hangs")
    await page.press("input[name=reason]:visible", "Enter")
    await page.wait_for_selector(f"{row}:has-text('not heard yet')")
    assert "The GPU hangs" in await page.inner_text(row) and "By ada" in await page.inner_text(row)
    number = robot.orders()["reboot"]["number"]
    obey(robot, orders={"reboot": number}, uptime_s=7302.0)
    await page.wait_for_selector(f"{row}:has-text('after this episode')")
    await page.click(reboot)
    await page.fill("input[name=reason]:visible", "Once more")
    await page.press("input[name=reason]:visible", "Enter")
    await page.wait_for_selector("text=is about to reboot")
    await page.click(".lf-question:visible >> text=Cancel")
    obey(robot, orders={"reboot": number}, uptime_s=0.2)
    await page.wait_for_selector(row, state="hidden")
    await page.wait_for_selector(".lf-event:has-text('Reboot asked for The GPU hangs')", timeout=15_000)
    assert robot.orders()["reboot"]["number"] == number
