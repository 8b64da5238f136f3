"""The emergency stop: one press on the card, how far it got, a confirmed release; with a viewer's eyes; on a phone."""

import pytest
from test_phone import PHONE

CARD = "[data-robot=robot-1]"


@pytest.fixture(scope="module")
def robots(serve):
    """Two robots and a server of their own, by name."""
    server = serve("stop")
    made = {name: server.enrol(name) for name in ("robot-1", "robot-2")}
    yield server, made
    for robot in made.values():
        robot.close()


@pytest.fixture
def stopping(robots):
    """Both run: what was asked for in another test was cleared at the robot."""
    for robot in robots[1].values():
        robot.heartbeat(estop={"wish": robot.wish()["number"], "holds": False})
    return robots


def obey(robot) -> None:
    """What courier and control do about the newest wish."""
    newest = robot.wish()
    state, holds = ("estopped", True) if newest["wanted"] else ("running", False)
    robot.heartbeat(state=state, estop={"wish": newest["number"], "holds": holds})


async def test_one_press_stops_and_a_confirmed_release_goes_on(stopping, look):
    server, robots = stopping
    viewer = await look(server.url)
    page, card = viewer.page, viewer.page.locator(CARD)
    await viewer.open("/")
    await page.click("[aria-label='Emergency stop of robot-1']")
    await page.wait_for_selector(f"{CARD} [data-stop=stopping]")
    assert "Stopping" in await card.inner_text() and "by ada" in await card.inner_text()
    assert robots["robot-1"].wish()["wanted"] and not robots["robot-2"].wish()["wanted"]
    obey(robots["robot-1"])
    await page.wait_for_selector(f"{CARD} [data-stop=stopped]")
    assert not await page.is_visible("[aria-label='Emergency stop of robot-1']")

    await page.click("[aria-label='Release robot-1']")
    await page.click("text=Keep it stopped")
    await page.wait_for_selector(".lf-question", state="hidden")
    assert robots["robot-1"].wish()["wanted"]
    await page.click("[aria-label='Release robot-1']")
    await page.click(".lf-question .is-primary")
    await page.wait_for_selector(f"{CARD} [data-stop=releasing]")
    obey(robots["robot-1"])
    await page.wait_for_selector(f"{CARD} [data-stop=free]")
    assert await page.is_visible("[aria-label='Emergency stop of robot-1']")


async def test_all_stop_with_one_press_and_a_viewer_only_looks(stopping, look):
    server, robots = stopping
    operator, viewer = await look(server.url), await look(server.url, "vic")
    for each in (operator, viewer):
        await each.open("/")
    await operator.page.click("[aria-label='Emergency stop of all robots']")
    for robot in robots.values():
        obey(robot)
    for each in (operator, viewer):
        for name in robots:
            await each.page.wait_for_selector(f"[data-robot={name}] [data-stop=stopped]")
    assert await viewer.page.is_disabled("[aria-label='Release robot-1']")
    assert await viewer.page.is_disabled("[aria-label='Release all robots']")
    assert await viewer.page.is_disabled("[aria-label='Emergency stop of all robots']")
    title = await viewer.page.get_attribute("[aria-label='Release robot-1']", "title")
    assert title == "Emergency stops need the role operator"
    await operator.page.click("[aria-label='Release all robots']")
    await operator.page.click(".lf-question .is-primary")
    for name, robot in robots.items():
        await operator.page.wait_for_selector(f"[data-robot={name}] [data-stop=releasing]")
        obey(robot)
        await operator.page.wait_for_selector(f"[data-robot={name}] [data-stop=free]")
    assert await viewer.page.is_disabled("[aria-label='Emergency stop of robot-1']")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
async def test_how_it_looks(stopping, look, theme, device):
    server, robots = stopping
    viewer = await look(server.url, **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": server.url}])
    await viewer.open("/")
    page = viewer.page
    button = page.locator("[aria-label='Emergency stop of robot-1']")
    assert (await button.bounding_box())["height"] >= 44, "a thumb's size"
    await viewer.shot(f"{device}-stop-free-{theme}")
    await (button.tap() if device == "phone" else button.click())
    await page.wait_for_selector(f"{CARD} [data-stop=stopping]")
    await viewer.shot(f"{device}-stop-stopping-{theme}")
    obey(robots["robot-1"])
    await page.wait_for_selector(f"{CARD} [data-stop=stopped]")
    await page.locator(f"{CARD} [data-stop]").scroll_into_view_if_needed()
    await viewer.shot(f"{device}-stop-stopped-{theme}")
    await page.click("[aria-label='Release robot-1']")
    await page.wait_for_selector(".lf-question .is-primary")
    assert await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    await page.wait_for_timeout(500)  # it fades in
    await viewer.shot(f"{device}-stop-question-{theme}")


async def test_a_robot_that_is_not_reached_is_said_to_be_so(stopping, look):
    server, _ = stopping
    viewer = await look(server.url, **PHONE)
    await viewer.open("/")
    server.silence("robot-1")
    await viewer.page.wait_for_selector("text=Offline")
    await viewer.page.tap("[aria-label='Emergency stop of robot-1']")
    await viewer.page.wait_for_selector(f"{CARD} [data-stop=stopping] >> text=Stop it at the robot")
    await viewer.shot("phone-stop-offline")
