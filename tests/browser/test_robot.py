"""The robot's page: live, with its past, and with notes that people write."""

import asyncio
import time

import cv2
import drawn_episode
import numpy as np
import pytest
from drawn_episode import Drawing
from robot_client import JOINTS, METRICS
from test_phone import PHONE

PATH = "/robots/robot-1"


def tell(fleet, **changes) -> None:
    fleet.robots["robot-1"].heartbeat(
        **{"joints": JOINTS, "metrics": METRICS, "calibration_fingerprint": "a" * 64} | changes
    )


async def test_it_shows_joints_motors_and_pictures_live(fleet, look):
    tell(fleet)
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    page = viewer.page
    assert "30.0°" in await page.inner_text("[data-joint=elbow_flex]")
    assert "60.0 %" in await page.inner_text(".lf-joint[data-joint=gripper]")
    assert "44 °C" in await page.inner_text("tr[data-joint=elbow_flex]")
    assert await page.inner_text("dt:text-is('Hardware') + dd") == "test", "as it said when it enrolled"
    assert not await page.is_visible("dt:text-is('System')"), "an older agent"
    assert await page.get_attribute("tr[data-joint=gripper] td:nth-child(2)", "data-tone") == "warn"
    await page.wait_for_selector("lf-camera[name=front][data-state=live]")
    versions = {"lerobot": "0.6.1", "torch": "2.7.1", "jetson_linux": "36.4.3", "kernel": "5.15.148-tegra"}
    tell(fleet, joints=JOINTS | {"values": [10.0, -20.0, 33.5, 40.0, -50.0, 60.0]}, versions=versions)
    await page.wait_for_selector("[data-joint=elbow_flex] >> text=33.5°")
    assert await page.inner_text("dt:text-is('Policies run on') + dd") == "LeRobot 0.6.1 · torch 2.7.1"
    assert await page.inner_text("dt:text-is('System') + dd") == "Jetson Linux 36.4.3 · Linux 5.15.148-tegra"
    await viewer.shot("robot")


async def test_the_drawn_arm_turns_with_the_joints(fleet, look):
    tell(fleet)
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    await viewer.page.wait_for_selector(".lf-arm[data-known=yes]")
    canvas = viewer.page.locator(".lf-arm canvas")
    before = await drawn(canvas)
    tell(fleet, joints=JOINTS | {"values": [-60.0, 20.0, -30.0, 10.0, 0.0, 0.0]})

    async def turned() -> bool:
        return await drawn(canvas) != before

    await becomes(turned)


async def becomes(holds) -> None:
    for _ in range(50):
        if await holds():
            return
        await asyncio.sleep(0.1)
    assert await holds()


async def drawn(canvas) -> bytes:
    return await canvas.screenshot()


async def test_the_drawn_arm_follows_a_switch_of_the_theme(fleet, look):
    tell(fleet)
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    await viewer.page.wait_for_selector(".lf-arm[data-known=yes]")
    canvas = viewer.page.locator(".lf-arm canvas")

    async def corner() -> int:
        """How bright it is above the floor, 0 to 255."""
        picture = cv2.imdecode(np.frombuffer(await drawn(canvas), np.uint8), cv2.IMREAD_GRAYSCALE)
        return int(picture[-4, 4])

    async def is_dark() -> bool:
        return await corner() < 60

    async def is_light() -> bool:
        return await corner() > 180

    for is_ground in (is_dark, is_light, is_dark):
        await becomes(is_ground)
        await viewer.shot(f"robot-arm-{await viewer.page.get_attribute('html', 'data-theme')}")
        await viewer.page.click("[data-theme-switch]")


async def test_a_robot_that_is_looked_at_is_asked_to_tell_more_often(serve, look):
    server = serve("watched", heartbeat_interval_s=2)
    robot, other = server.enrol("robot-1"), server.enrol("robot-2")
    viewer = await look(server.url)
    assert robot.heartbeat()["interval_s"] == 2
    await viewer.open(PATH)
    for _ in range(100):
        if (interval_s := robot.heartbeat()["interval_s"]) < 2:
            break
        await asyncio.sleep(0.1)
    assert interval_s == 1
    assert other.heartbeat()["interval_s"] == 2


async def test_its_past_names_episodes_changes_and_who_stopped_it(serve, look):
    server = serve("past")
    robot = server.enrol("robot-7")
    robot.heartbeat(calibration_fingerprint="a" * 64)
    robot.heartbeat(state="fault", calibration_fingerprint="b" * 64)
    robot.heartbeat(state="resetting", calibration_fingerprint="b" * 64)
    viewer = await look(server.url)
    await viewer.open("/robots/robot-7")
    page = viewer.page
    assert "None yet" in await page.inner_text("section:has(h2:text-is('Episodes'))")
    calibrations = page.locator("section:has(h2:text-is('Calibration')) .lf-event")
    assert [(await row.inner_text())[:3] for row in await calibrations.all()] == ["bbb", "aaa"]
    events = await page.inner_text("section:has(h2:text-is('Events'))")
    assert "running → fault" in events and "fault → running" in events
    await page.click("[aria-label='Emergency stop of robot-7']")
    await page.wait_for_selector("section:has(h2:text-is('Events')) >> text=Emergency stop asked for", timeout=15_000)
    assert "by ada" in await page.inner_text("section:has(h2:text-is('Events'))")


async def test_success_is_told_with_its_interval(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    mine = [drawing.outcome == "success" for drawing in fleet.episodes if drawing.robot_id == "robot-1"]
    text = await viewer.page.inner_text(".lf-rate")
    assert f"{sum(mine)} of {len(mine)} judged" in text and "95 % confidence" in text
    assert await viewer.page.locator(".lf-brief").count() == 8
    await viewer.page.click(".lf-brief >> nth=0")
    await viewer.page.wait_for_url("**/episodes/*")


async def test_notes_are_written_by_operators_and_never_run(fleet, look):
    viewer, reader, other = await look(fleet.url), await look(fleet.url, "vic"), await look(fleet.url)
    for each in (viewer, other):
        await each.open(PATH)
        await each.page.click(".lf-notes >> text=Edit")
    text = "# Elbow\n\nIt *slips*. <img src=x onerror='window.ran = 1'><script>window.ran = 1</script>"
    await viewer.page.fill(".lf-notes textarea", text)
    await viewer.page.click(".lf-notes >> text=Save")
    await viewer.page.wait_for_selector(".lf-markdown em >> text=slips")
    await reader.open(PATH)
    await reader.page.wait_for_selector(".lf-markdown h1 >> text=Elbow")
    assert await reader.page.evaluate("window.ran") is None
    assert not await reader.page.is_visible(".lf-notes >> text=Edit")
    await other.page.fill(".lf-notes textarea", "Something else")
    await other.page.click(".lf-notes >> text=Save")
    await other.page.wait_for_selector("text=wrote about robot-1 since you read")
    for each in (viewer, reader, other):
        each.errors[:] = [error for error in each.errors if "404" not in error]  # the picture that is not there


async def test_an_so100_is_said_to_be_drawn_as_an_so101(serve, look, tmp_path):
    server = serve("so100")  # of its own: another robot would be in the way of other tests
    robot = server.enrol("robot-1")
    robot.heartbeat(joints=JOINTS, cameras=[])
    looks = [(device, theme) for device in ("desk", "phone") for theme in ("dark", "light")]
    viewers = []
    for device, theme in looks:
        viewer = await look(server.url, **(PHONE if device == "phone" else {}))
        await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": server.url}])
        await viewer.open("/robots/robot-1")
        viewers.append(viewer)
    caption = viewers[0].page.locator(".lf-arm-caption")
    assert await caption.count() == 1 and not await caption.inner_text(), "no episode has said yet what it is"
    drawing = Drawing(robot.id, time.time_ns() - 10**10, ticks=12, robot_type="so100_follower")
    robot.upload(drawn_episode.write(tmp_path, drawing))
    for (device, theme), viewer in zip(looks, viewers, strict=True):
        await viewer.page.wait_for_selector(".lf-arm-caption >> text=SO-100 drawn as SO-101")
        await viewer.page.eval_on_selector(".lf-arm", "(element) => element.scrollIntoView({ block: 'center' })")
        await viewer.shot(f"{device}-so100-{theme}")
    robot.heartbeat(joints=None, cameras=[])
    await caption.wait_for(state="hidden")
    robot.close()


async def test_an_unknown_robot_is_said_to_be_so(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open("/robots/nobody")
    assert "No robot is called nobody" in await viewer.page.inner_text(".lf-empty")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
async def test_how_it_looks(fleet, look, theme, device):
    tell(fleet)
    viewer = await look(fleet.url, "root", **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": fleet.url}])
    await viewer.open(PATH)
    await viewer.page.wait_for_selector("lf-camera[name=front][data-state=live]")
    await viewer.page.wait_for_timeout(4000)  # until three.js is loaded and draws
    assert await viewer.page.evaluate("document.documentElement.scrollWidth") <= viewer.page.viewport_size["width"]
    events = viewer.page.locator(".lf-event")
    narrow = "all => all.filter(each => each.offsetWidth < each.parentElement.offsetWidth).map(each => each.innerText)"
    assert await events.count() > 3
    assert await events.evaluate_all(narrow) == [], "each has a line of its own"
    await viewer.page.screenshot(path=f"tests/output/{device}-robot-{theme}.png", full_page=True)
