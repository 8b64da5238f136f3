"""Rest, tasks and reboots of robots chosen on the fleet page: asked about by name, done one by one."""

from functools import partial

import pytest
from test_orders import audited
from test_phone import PHONE

from lefleet_server.robots import service as robots

NAMES = ("arm-1", "arm-2", "arm-3")
FORM = ".lf-question:visible"
BAR = ".lf-chosen"
WHY = "The hall is being painted"


@pytest.fixture(scope="module")
def server(serve):
    """One of its own: what is ordered here is no other module's."""
    return serve("fleetorders")


@pytest.fixture(scope="module")
def arms(server):
    """Three whose hosts take reboots, one whose host does not, one that was never heard of."""
    made = {name: server.enrol(name) for name in (*NAMES, "arm-4", "arm-5")}
    yield made
    for arm in made.values():
        arm.close()


@pytest.fixture
async def chosen(server, arms, look):
    """A person's table with these arms chosen, after all but arm-5 have spoken."""

    async def open_(*names, username="ada", **options):
        for name in NAMES:
            arms[name].heartbeat(orders={"reboot": 0}, uptime_s=7300.0)
        arms["arm-4"].heartbeat()
        viewer = await look(server.url, username, **options)
        await viewer.open("/?view=table")
        await viewer.page.wait_for_selector("[aria-label='Select arm-1']")
        for name in names:
            await viewer.page.click(f"[aria-label='Select {name}']")
        return viewer

    return open_


def asked(server, name: str, action: str) -> list:
    return [detail for _, did, detail in server.do(audited(f"robot:{name}")) if did == action]


async def press(page, word: str) -> str:
    """What the question says."""
    await page.click(f"{BAR} button:text-is('{word}')")
    await page.wait_for_selector(FORM)
    return await page.inner_text(FORM)


async def submit(page) -> None:
    await page.click(f"{FORM} button[type=submit]")
    await page.wait_for_selector(FORM, state="hidden")


async def test_those_chosen_rest_for_a_reason_and_go_on(server, arms, chosen):
    page = (await chosen(*NAMES)).page
    text = await press(page, "Rest")
    assert "Let 3 robots rest?" in text and "arm-1, arm-2, arm-3" in text
    await page.click(f"{FORM} >> text=Cancel")
    await page.wait_for_selector(FORM, state="hidden")
    assert arms["arm-2"].orders()["rest"] is None, "nobody said yes"
    await press(page, "Rest")
    await page.fill(f"{FORM} [name=reason]", WHY)
    await submit(page)
    await page.wait_for_selector("text=Asked to rest: 3 robots.")
    assert [arms[name].orders()["rest"]["wanted"] for name in NAMES] == [True] * 3
    assert arms["arm-4"].orders()["rest"] is None, "it was not chosen"
    text = await press(page, "Go on")
    assert "Let 3 robots go on?" in text and "arm-1, arm-2, arm-3" in text and "nobody is within their reach" in text
    await submit(page)
    await page.wait_for_selector("text=Asked to go on: 3 robots.")
    assert [arms[name].orders()["rest"]["wanted"] for name in NAMES] == [False] * 3
    for name in NAMES:
        assert asked(server, name, "robot.rest") == [{"rest": True, "reason": WHY}, {"rest": False}]


async def test_those_chosen_are_given_a_task_and_go_back_to_their_settings(server, arms, chosen):
    page = (await chosen("arm-1", "arm-3")).page
    text = await press(page, "Task…")
    assert "Give 2 robots a task?" in text and "arm-1, arm-3" in text
    await page.fill(f"{FORM} [name=text]", "Sort the bolts")
    await page.press(f"{FORM} [name=text]", "Enter")
    await page.wait_for_selector("text=Given the task: 2 robots.")
    assert [arms[name].orders()["task"]["text"] for name in ("arm-1", "arm-3")] == ["Sort the bolts"] * 2
    assert arms["arm-2"].orders()["task"] is None
    await press(page, "Task…")
    assert await page.input_value(f"{FORM} [name=text]") == "", "it was opened anew"
    await submit(page)
    await page.wait_for_selector("text=Given the task: 2 robots.")
    assert asked(server, "arm-3", "robot.task") == [{"task": "Sort the bolts"}, {"task": None}]


async def test_a_reboot_says_which_cannot_be_and_asks_the_others(server, arms, chosen):
    page = (await chosen("arm-1", "arm-2", "arm-4", "arm-5")).page
    text = await press(page, "Reboot…")
    assert "Reboot 2 robots?" in text and "arm-1, arm-2" in text
    assert "2 of 4 robots cannot be rebooted:" in text
    assert "arm-4 takes no reboots from afar" in text and "arm-5 is offline" in text
    await page.fill(f"{FORM} [name=reason]", "The GPU hangs")
    await submit(page)
    await page.wait_for_selector("text=Asked to reboot: 2 robots.")
    assert [arms[name].orders()["reboot"] is not None for name in (*NAMES, "arm-4")] == [True, True, False, False]
    assert asked(server, "arm-1", "robot.reboot") == [{"reboot": True, "reason": "The GPU hangs"}]
    assert not asked(server, "arm-4", "robot.reboot")
    text = await press(page, "Reboot…")
    assert "4 of 4 robots cannot be rebooted" in text and "arm-1 is about to reboot: ada asked" in text
    assert not await page.is_visible(f"{FORM} button[type=submit]"), "there is nobody to ask"


async def test_one_that_refuses_is_told_and_the_others_obey(server, arms, chosen):
    gone = server.enrol("arm-10")
    gone.heartbeat()
    page = (await chosen("arm-1", "arm-10", "arm-2")).page
    await press(page, "Task…")
    await page.fill(f"{FORM} [name=text]", "Fold the towel")
    server.do(partial(robots.revoke, robot_id="arm-10", actor="test"))
    await page.press(f"{FORM} [name=text]", "Enter")
    await page.wait_for_selector(f"{FORM} >> text=1 of 3 robots did not take it")
    await page.wait_for_selector(f"{FORM} >> text=arm-10 is retired")
    assert [arms[name].orders()["task"]["text"] for name in ("arm-1", "arm-2")] == ["Fold the towel"] * 2
    await page.click(f"{FORM} >> text=Close")
    await page.wait_for_selector(FORM, state="hidden")
    text = await press(page, "Rest")
    assert "Let 2 robots rest?" in text and "1 of 3 robots will hear nothing of it" in text
    gone.close()


async def test_a_viewer_sees_none_of_it(chosen):
    page = (await chosen("arm-1", username="vic")).page
    pressed = await page.locator(f"{BAR} button:visible").all_inner_texts()
    assert pressed == ["Emergency stop", "Clear"]
    await page.keyboard.press("?")
    assert "rest" not in await page.inner_text("dialog")


async def test_the_keyboard_does_it_too(server, arms, chosen):
    page = (await chosen(username="root")).page
    key = page.keyboard.press
    await key("r")
    assert not await page.is_visible(FORM), "nobody is chosen"
    for each in "jxjx":
        await key(each)
    for letter, title in (("g", "Let 2 robots go on?"), ("w", "Give 2 robots a task?"), ("r", "Let 2 robots rest?")):
        await key(letter)
        await page.wait_for_selector(f"{FORM} >> text={title}")
        await key("Escape")
        await page.wait_for_selector(".q-dialog", state="detached")
        assert "2 selected" in await page.inner_text(BAR), "Escape ended the question, not the choice"
    await key("r")
    await page.wait_for_function("document.activeElement.name === 'reason'")
    await page.keyboard.type("A grower waits")
    await key("Enter")
    await page.wait_for_selector("text=Asked to rest: 2 robots.")
    assert [arms[name].orders()["rest"]["wanted"] for name in ("arm-1", "arm-2")] == [True, True]


@pytest.mark.parametrize(("device", "theme"), [("desk", "dark"), ("phone", "light")])
async def test_how_it_looks(server, chosen, device, theme):
    viewer = await chosen(**(PHONE if device == "phone" else {}))
    page = viewer.page
    await page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": server.url}])
    await viewer.open("/?view=table")
    await page.wait_for_selector("[aria-label='Select arm-1']")
    await page.keyboard.press("a")
    await viewer.shot(f"{device}-fleet-orders-bar-{theme}")
    for word in ("Rest", "Go on", "Task…", "Reboot…"):
        height = (await page.locator(f"{BAR} button:text-is('{word}')").bounding_box())["height"]
        assert height >= (44 if device == "phone" else 40)
        await press(page, word)
        await page.wait_for_timeout(500)  # it fades in
        assert await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        await viewer.shot(f"{device}-fleet-orders-{word.strip('…').replace(' ', '-').lower()}-{theme}")
        await page.keyboard.press("Escape")
        await page.wait_for_selector(".q-dialog", state="detached")
