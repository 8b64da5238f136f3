"""Every page of people, tokens, log, storage, jobs and quality, with each role's eyes, on a desk and on a phone."""

import pytest
from test_phone import PHONE

EYES = {
    "root": ["/people", "/people/ada", "/audit", "/tokens?whose=all", "/storage", "/jobs", "/account"],
    "ada": ["/tokens", "/storage", "/jobs", "/account"],
    "vic": ["/tokens", "/storage", "/jobs", "/account"],
}


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
@pytest.mark.parametrize("who", EYES)
async def test_every_page_fits_and_is_built(house, look, who, device, theme):
    viewer = await look(house.url, who, **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": house.url}])
    pages = [*EYES[who], "/episodes", f"/episodes/{house.flagged}", f"/episodes/{house.quarantined}"]
    for path in pages:
        await viewer.open(path)
        await viewer.page.wait_for_selector("lf-player[data-state=paused]" if "/episodes/" in path else ".lf-main h1")
        width = await viewer.page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewer.page.viewport_size["width"], f"{path} is {width} px wide"
        name = path.split("?")[0].strip("/").replace("/", "-").replace(house.flagged, "flagged")
        name = name.replace(house.quarantined, "quarantined")
        await viewer.page.screenshot(
            path=f"tests/output/house-{who}-{device}-{theme}-{name}.png", full_page=True, animations="disabled"
        )
