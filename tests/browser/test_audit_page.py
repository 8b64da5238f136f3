"""The audit log on its page: filtered in the address, paged without gaps, its details readable."""

import httpx
import pytest
from demotion import pressed_after

from lefleet_server.accounts.models import Role

PASSWORD = "a long enough password"


@pytest.fixture(scope="module")
def busy(house):
    """Sixty changes of one subject, so that a page does not hold them; returns all its entries, newest first."""
    with httpx.Client(base_url=house.url, timeout=30) as client:
        client.post("/api/v1/login", json={"username": "root", "password": PASSWORD}).raise_for_status()
        for number in range(60):
            body = {"outcome": ("failure", "success")[number % 2], "note": f"note {number}"}
            client.put(f"/api/v1/episodes/{house.clean}/label", json=body).raise_for_status()
        found = client.get("/api/v1/audit", params={"subject": f"episode:{house.clean}", "limit": 100})
        yield [entry["id"] for entry in found.json()["items"]]


async def shown(viewer):
    return [int(await line.get_attribute("data-entry")) for line in await viewer.page.locator("[data-entry]").all()]


async def test_pages_follow_one_another_and_filters_stay_in_the_address(house, look, busy):
    admin = await look(house.url, "root")
    page = admin.page
    await admin.open("/audit")
    await page.fill("[aria-label=About]", f"episode:{house.clean}")
    await page.press("[aria-label=About]", "Enter")
    await page.wait_for_url(f"**/audit?subject=episode%3A{house.clean}")
    await page.wait_for_function("id => document.querySelector('[data-entry]')?.dataset.entry == id", arg=busy[0])
    assert await page.input_value("[aria-label=About]") == f"episode:{house.clean}"
    first = await shown(admin)
    assert first == busy[:50]
    text = await page.locator("[data-entry]").first.inner_text()
    assert "Episode labelled" in text and "failure → success" in text and "note 58 → note 59" in text
    await admin.shot("audit-labels")
    await page.click(".lf-pager >> text=Older")
    await page.wait_for_url("**&before=*")
    await page.wait_for_function("id => document.querySelector('[data-entry]')?.dataset.entry == id", arg=busy[50])
    assert await shown(admin) == busy[50:]
    await page.click(".lf-pager >> text=Newest")
    await page.wait_for_function("id => document.querySelector('[data-entry]')?.dataset.entry == id", arg=busy[0])


async def test_who_what_and_when_are_filters(house, look, busy):
    admin = await look(house.url, "root")
    page = admin.page
    await admin.open("/audit")
    await page.select_option("[aria-label=Who]", "user:root")
    await page.wait_for_url("**/audit?actor=user%3Aroot")
    await page.select_option("[aria-label=What]", "user")
    await page.wait_for_url("**&action=user")
    await page.wait_for_function(
        "[...document.querySelectorAll('[data-entry]')].every((line) => line.dataset.action.startsWith('user.'))"
    )
    assert await shown(admin)
    await admin.open("/audit?until=2001-01-01T00:00:00Z")
    assert "Nothing matches these filters" in await page.inner_text(".lf-empty")
    await page.click("text=Show the whole log")
    await page.wait_for_url(f"{house.url}/audit")
    await admin.open("/audit?before=nonsense&last=9y&since=yesterday")
    assert len(await shown(admin)) == 50


async def test_a_person_without_the_role_is_told_so_and_led_back(house, look):
    viewer = await look(house.url, "ada")
    await viewer.open("/audit")
    assert "It needs the role admin; yours is operator" in await viewer.page.inner_text(".lf-empty")
    await viewer.shot("audit-refused")
    assert viewer.errors == ["Failed to load resource: the server responded with a status of 403 (Forbidden)"]
    viewer.errors.clear()
    await viewer.page.click("text=Back to the fleet")
    await viewer.page.wait_for_url(f"{house.url}/")


PRESS_ADMIN = ".lf-roles button:text-is('Admin')"
REFUSED = """document.body.innerText.includes("This needs the role admin; yours is viewer now.")
    && document.querySelector(".lf-roles [aria-pressed=true]")?.innerText === "Viewer" """


async def test_who_was_made_less_meanwhile_is_refused_on_an_open_page(house, look):
    admin = await pressed_after(
        house.server, look, "/people/vic", PRESS_ADMIN, REFUSED, becomes=Role.VIEWER, name="max"
    )
    await admin.page.goto("about:blank")
    admin.errors.clear()  # the page drawn anew is a 403
