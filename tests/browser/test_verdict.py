"""How the running episode went, said on the robot's card: until it has ended, with a viewer's eyes, on a phone."""

import uuid

import pytest
from test_phone import PHONE

CARD = "[data-robot=robot-1]"
SUCCESS = f"{CARD} .lf-verdict button:has-text('Success')"


@pytest.fixture(scope="module")
def running(serve):
    """A server of its own and a robot in the middle of episodes."""
    server = serve("verdict")
    robot = server.enrol("robot-1")
    yield server, robot
    robot.close()


async def test_a_press_ends_the_episode_that_is_seen_and_the_next_one_can_be_judged(running, look):
    server, robot = running
    first = uuid.uuid4().hex
    robot.heartbeat(episode_id=first)
    viewer = await look(server.url)
    await viewer.open("/")
    await viewer.page.click(SUCCESS)
    await viewer.page.wait_for_selector(f"{CARD} .lf-verdict >> text=Ending: success")
    assert "by ada" in await viewer.page.inner_text(f"{CARD} .lf-verdict")
    assert not await viewer.page.is_visible(SUCCESS), "said once"
    said = robot.verdict()
    assert (said["episode_id"], said["word"], said["said_by"]) == (first, "success", "user:ada")
    robot.heartbeat(episode_id=uuid.uuid4().hex)
    await viewer.page.wait_for_selector(SUCCESS)
    robot.heartbeat(state="resetting")
    await viewer.page.wait_for_selector(f"{CARD} .lf-verdict", state="hidden")


async def test_a_viewer_only_looks(running, look):
    server, robot = running
    robot.heartbeat(episode_id=uuid.uuid4().hex)
    viewer = await look(server.url, "vic")
    await viewer.open("/")
    assert await viewer.page.is_disabled(SUCCESS)
    assert await viewer.page.get_attribute(SUCCESS, "title") == "Ending an episode needs the role operator"


@pytest.mark.parametrize("path", ["/", "/robots/robot-1"])
async def test_redo_asks_first(running, look, path):
    server, robot = running
    episode = uuid.uuid4().hex
    robot.heartbeat(episode_id=episode)
    viewer = await look(server.url)
    await viewer.open(path)
    redo = ".lf-verdict button:has-text('Redo')"
    for answer in ("Cancel", "Redo"):
        await viewer.page.click(redo)
        await viewer.page.wait_for_selector("[role=alertdialog] >> text=Do the episode of robot-1 again?")
        await viewer.page.click(f"[role=alertdialog] >> text='{answer}'")
        await viewer.page.wait_for_selector("[role=alertdialog]", state="hidden")
        if answer == "Cancel":
            assert robot.verdict()["episode_id"] != episode
    await viewer.page.wait_for_selector(".lf-verdict >> text=Ending: redo")
    assert (robot.verdict()["episode_id"], robot.verdict()["word"]) == (episode, "redo")


async def test_a_thumb_on_a_wide_screen_finds_its_buttons(running, look):
    server, robot = running
    robot.heartbeat(episode_id=uuid.uuid4().hex)
    viewer = await look(server.url, viewport={"width": 1180, "height": 820}, has_touch=True, is_mobile=True)
    for path, buttons in (("/", f"{CARD} .lf-verdict .lf-segment"), ("/episodes", ".lf-selection .lf-segment")):
        await viewer.open(path)
        await viewer.page.locator(buttons).first.wait_for()
        heights = [(await each.bounding_box())["height"] for each in await viewer.page.locator(buttons).all()]
        assert len(heights) == 4 and min(heights) >= 44
        await viewer.shot(f"tablet-{'verdict' if path == '/' else 'selection'}")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
async def test_how_it_looks(running, look, theme, device):
    server, robot = running
    robot.heartbeat(episode_id=uuid.uuid4().hex)
    viewer = await look(server.url, **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": server.url}])
    await viewer.open("/")
    button = viewer.page.locator(SUCCESS)
    await button.scroll_into_view_if_needed()
    assert (await button.bounding_box())["height"] >= (44 if device == "phone" else 30)
    await viewer.shot(f"{device}-verdict-{theme}")
    await button.click()
    await viewer.page.wait_for_selector(f"{CARD} .lf-verdict >> text=Ending: success")
    assert await viewer.page.evaluate("document.documentElement.scrollWidth") <= viewer.page.viewport_size["width"]
    await viewer.shot(f"{device}-verdict-said-{theme}")
