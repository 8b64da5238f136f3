"""Every page of the dashboard with each role's eyes, on a desk and on a phone; whom a page refuses it tells so."""

from urllib.parse import urlsplit

import httpx
import pytest
from house import PASSWORD
from test_phone import PHONE

KEPT = "house-looks"
EVERYBODYS = {
    "/": "Fleet",
    "/robots/robot-1": "robot-1",
    "/episodes": "Episodes",
    "/compare": "Compare",
    "/sets": "Sets",
    f"/episodes?set={KEPT}": "Episodes",
    "/holds": "Legal holds",
    "/tokens": "Tokens",
    "/storage": "Storage",
    "/jobs": "Jobs",
}
ADMINS = {"/people": "People", "/people/ada": "ada", "/audit": "Audit log", "/tokens?whose=all": "Tokens"}
REFUSED = "This page is not yours to see"
OTHERS = EVERYBODYS | dict.fromkeys(("/people", "/people/ada", "/audit"), REFUSED)
EYES = {
    "root": EVERYBODYS | ADMINS | {"/account": "root"},
    "ada": OTHERS | {"/account": "ada"},
    "vic": OTHERS | {"/account": "vic"},
}
"""Paths with the heading that stands there."""
STOP = "[aria-label='Emergency stop of robot-1']"
JUDGE = "[aria-label='End the episode: it succeeded (robot-1)']"
OPERATORS = {"root", "ada"}
PRESSED_BY = {
    "/": {STOP: OPERATORS, JUDGE: OPERATORS, "[aria-label='Emergency stop of all robots']": OPERATORS}
    | {"button:has-text('Add a robot')": {"root"}},
    "/robots/robot-1": {STOP: OPERATORS, JUDGE: OPERATORS, ".lf-notes button:has-text('Edit')": OPERATORS}
    | {"button:has-text('Let it rest')": OPERATORS, "button:has-text('Revoke')": {"root"}},
}
"""Pages of a robot that speaks: their buttons, with the people who can press them."""
LOOKS = pytest.mark.parametrize(
    ("device", "theme"), [(device, theme) for device in ("desk", "phone") for theme in ("dark", "light")]
)


@pytest.fixture(scope="module")
def furnished(house):
    """The house with a set of two episodes and a hold, which go again: other modules count what they find."""
    with httpx.Client(base_url=f"{house.url}/api/v1", timeout=30) as client:
        client.post("login", json={"username": "root", "password": PASSWORD}).raise_for_status()
        client.post("sets", json={"name": KEPT, "note": "for training"}).raise_for_status()
        chosen = {"add": [house.clean, house.flagged]}
        client.patch(f"sets/{KEPT}/episodes", json=chosen).raise_for_status()
        client.put(f"episodes/{house.clean}/hold", json={"reason": "A court asks for it"}).raise_for_status()
        yield house
        client.delete(f"episodes/{house.clean}/hold").raise_for_status()
        client.delete(f"sets/{KEPT}").raise_for_status()


async def shoot(page, name: str, path: str) -> None:
    """The whole page, after a look at what every page owes."""
    assert await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], path
    await page.screenshot(path=f"tests/output/house-{name}.png", full_page=True, animations="disabled")


async def see_robot(page, who: str, path: str) -> None:
    await page.wait_for_selector("lf-camera[name=front][data-state=live]")
    await page.wait_for_selector("text=Differs from its roles: swap")
    if path != "/":
        await page.wait_for_selector("[data-joint=elbow_flex] >> text=30.0°")
        assert "44 °C" in await page.inner_text("tr[data-joint=elbow_flex]")
    able = {}
    for button in PRESSED_BY[path]:
        found = page.locator(button)
        able[button] = await found.count() == 1 and await found.is_visible() and await found.is_enabled()
    assert able == {button: who in people for button, people in PRESSED_BY[path].items()}


def named(path: str) -> str:
    address = urlsplit(path)
    return address.path.strip("/").replace("/", "-") + ("-set" if "set=" in address.query else "") or "fleet"


@LOOKS
@pytest.mark.parametrize("who", EYES)
async def test_every_page_fits_and_is_built(furnished, look, who, device, theme):
    viewer = await look(furnished.url, who, **(PHONE if device == "phone" else {}))
    page = viewer.page
    await page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": furnished.url}])
    for path, heading in EYES[who].items():
        if path in PRESSED_BY:
            furnished.tell()
        await viewer.open(path)
        title = page.locator(".lf-main h2" if heading == REFUSED else ".lf-main h1").first
        await title.wait_for()
        assert (await title.inner_text()) == heading, path
        if heading == REFUSED:
            assert "403" in viewer.errors.pop(), "the browser tells the status of the answer"
        if path in PRESSED_BY:
            await see_robot(page, who, path)
        await shoot(page, f"{who}-{device}-{theme}-{named(path)}", path)
    for kind in ("flagged", "quarantined"):
        path = f"/episodes/{getattr(furnished, kind)}"
        await viewer.open(path)
        await page.wait_for_selector("lf-player[data-state=paused]")
        assert await page.inner_text(".lf-main h1") == "robot-1"
        await shoot(page, f"{who}-{device}-{theme}-episodes-{kind}", path)


@LOOKS
async def test_the_log_in_page_fits(house, look, device, theme):
    viewer = await look(house.url, None, **(PHONE if device == "phone" else {}))
    page = viewer.page
    await page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": house.url}])
    await page.goto(f"{house.url}/audit")
    await page.wait_for_url("**/login?next=/audit")
    assert await page.inner_text("h1") == "Log in"
    await shoot(page, f"nobody-{device}-{theme}-login", "/login")
