"""Beside the robot, on a phone: every page fits its width, in both themes."""

import pytest

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_no_page_scrolls_sideways(fleet, look, theme):
    fleet.robots["robot-1"].heartbeat()
    viewer = await look(fleet.url, **PHONE)
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": fleet.url}])
    pages = {
        "fleet": ("/", "lf-camera[data-state=live]"),
        "table": ("/?view=table", "[data-robot=robot-1] >> text=robot-1"),
        "robot": ("/robots/robot-1", "lf-camera[data-state=live]"),
        "episodes": ("/episodes", "a.lf-row"),
        "episode": (f"/episodes/{fleet.episodes[0].episode_id}", "lf-player[data-state=paused]"),
    }
    for name, (path, sign) in pages.items():
        await viewer.open(path)
        await viewer.page.wait_for_selector(sign)
        width = await viewer.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{path} is {width} px wide"
        await viewer.shot(f"phone-{name}-{theme}")


async def test_an_episode_plays_under_the_thumb(fleet, look):
    viewer = await look(fleet.url, **PHONE)
    await viewer.open(f"/episodes/{fleet.episodes[0].episode_id}")
    await viewer.page.wait_for_selector("lf-player[data-state=paused]")
    await viewer.page.tap("[aria-label=Play]")
    await viewer.page.wait_for_function("document.querySelector('lf-player').dataset.tick > 20")
    await viewer.page.tap("[aria-label=Pause]")
    await viewer.page.wait_for_selector("lf-player[data-state=paused]")
