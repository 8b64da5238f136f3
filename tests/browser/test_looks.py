"""Pictures of every page on a desk, dark and light, into tests/output/: to be looked at."""

import pytest


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_every_page_is_built(fleet, look, theme):
    for robot in fleet.robots.values():
        robot.heartbeat()
    viewer = await look(fleet.url)
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": fleet.url}])
    await viewer.open("/")
    await viewer.page.wait_for_selector("lf-camera[data-state=live]")
    await viewer.shot(f"desk-fleet-{theme}")
    await viewer.open("/episodes")
    await viewer.page.wait_for_load_state("networkidle")
    await viewer.shot(f"desk-episodes-{theme}")
    await viewer.open(f"/episodes/{fleet.episodes[0].episode_id}")
    await viewer.page.wait_for_selector("lf-player[data-state=paused]")
    for _ in range(2):
        await viewer.page.keyboard.press("Shift+ArrowRight")
    await viewer.page.wait_for_selector("lf-player[data-tick='60']")
    await viewer.shot(f"desk-episode-{theme}")


async def test_nothing_comes_from_another_host(fleet, look):
    viewer = await look(fleet.url)
    asked: list[str] = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    for path in ("/", "/robots/robot-1", "/episodes", f"/episodes/{fleet.episodes[0].episode_id}"):
        await viewer.open(path)
        await viewer.page.wait_for_load_state("networkidle")
    assert asked and all(url.startswith((fleet.url, "data:", "blob:")) for url in asked)
