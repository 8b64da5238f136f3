"""The fleet page shows every robot as it is, and keeps itself up to date."""

import asyncio

import drawn_episode

CARD = "[data-robot=robot-1]"


async def test_a_heartbeat_changes_only_what_it_changes(fleet, look):
    robot = fleet.robots["robot-1"]
    robot.heartbeat(state="running")
    viewer = await look(fleet.url)
    await viewer.open("/")
    card = viewer.page.locator(CARD)
    await card.locator("text=Running").wait_for()
    await viewer.page.eval_on_selector(CARD, "card => card.marked = true")
    loop = {"hz": 27.3, "lateness_ms_p50": 1, "lateness_ms_p99": 14.2, "lateness_ms_max": 30, "ticks": 1, "late": 1}
    robot.heartbeat(state="resetting", loop=loop, task="Another task")
    await card.locator("text=Resetting").wait_for(timeout=10_000)
    text = await card.inner_text()
    assert "27.3" in text and "14.2" in text and "Another task" in text
    assert await viewer.page.eval_on_selector(CARD, "card => card.marked"), "the card was built anew"


async def test_a_robot_that_falls_silent_goes_offline(fleet, look):
    fleet.robots["robot-2"].heartbeat()
    viewer = await look(fleet.url)
    await viewer.open("/")
    card = viewer.page.locator("[data-robot=robot-2]")
    await card.locator(".lf-chip >> text=Running").wait_for()
    fleet.server.silence("robot-2")
    await card.locator(".lf-chip >> text=Offline").wait_for()
    assert "1 hr. ago" in await card.inner_text()


async def test_the_pictures_are_live(fleet, look):
    robot = fleet.robots["robot-1"]
    robot.heartbeat()
    viewer = await look(fleet.url)
    await viewer.open("/")
    canvas = f"{CARD} lf-camera[name=front] canvas"
    await viewer.page.wait_for_selector(f"{CARD} lf-camera[name=front][data-state=live]")
    before = await viewer.shown_number(canvas)
    robot.show("front", drawn_episode.picture("front", before + 1, drawn_episode.joints_at(2.0, 0)))
    for _ in range(100):
        if await viewer.shown_number(canvas) == before + 1:
            break
        await asyncio.sleep(0.1)
    assert await viewer.shown_number(canvas) == before + 1
    await viewer.shot("fleet")


async def test_the_totals_count_the_viewers_day(fleet, look):
    viewer = await look(fleet.url, timezone_id="Pacific/Auckland")
    await viewer.open("/")
    await viewer.page.wait_for_function("!document.querySelectorAll('.lf-stat-value')[1].textContent.includes('—')")
    midnight = await viewer.page.evaluate("new Date().setHours(0, 0, 0, 0)")
    today = sum(drawing.started_wall_ns / 1e6 >= midnight for drawing in fleet.episodes)
    assert await viewer.page.locator(".lf-stat-value").nth(1).inner_text() == str(today)


async def test_an_empty_fleet_says_who_enrols_a_robot(serve, look):
    server = serve("empty")
    admin = await look(server.url, "root")
    await admin.open("/")
    assert "Press Add a robot" in await admin.page.inner_text(".lf-empty")
    assert await admin.page.is_visible("button >> text=Add a robot")
    viewer = await look(server.url)
    await viewer.open("/")
    assert "Ask an administrator" in await viewer.page.inner_text(".lf-empty")
    assert not await viewer.page.is_visible("button >> text=Add a robot")
    await viewer.shot("fleet-empty")
    server.enrol("robot-9").heartbeat()
    await viewer.page.wait_for_selector("[data-robot=robot-9]", timeout=10_000)
    assert not await viewer.page.is_visible(".lf-empty")
    await viewer.open("/episodes")
    assert "No episodes yet" in await viewer.page.inner_text(".lf-empty")
    await viewer.open("/compare")
    assert "Nothing to compare yet" in await viewer.page.inner_text(".lf-empty")


async def test_a_theme_is_kept(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open("/")
    assert await viewer.page.get_attribute("html", "data-theme") == "dark"
    await viewer.page.click("[data-theme-switch]")
    await viewer.open("/episodes")
    assert await viewer.page.get_attribute("html", "data-theme") == "light"
    assert await viewer.page.evaluate("document.body.classList.contains('body--light')")
