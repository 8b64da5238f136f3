"""Sets on the dashboard: made, filled from the table, exported, emptied and deleted; a viewer only looks."""

import json

PATH = "/sets"
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


async def holds(viewer, name: str, text: str) -> None:
    await viewer.open(PATH)
    await viewer.page.wait_for_selector(f"[data-set={name}] >> text={text}")


async def test_a_set_from_its_name_to_its_end(fleet, look):
    viewer = await look(fleet.url)
    page = viewer.page
    await viewer.open(PATH)
    assert "No sets yet" in await page.inner_text(".lf-empty")
    await page.fill("[aria-label=Name]", "no good name")
    await page.click("text=Create")
    await page.wait_for_selector("text=A name is up to 63")
    await page.fill("[aria-label=Name]", "good")
    await page.fill("[aria-label=Note]", "for training")
    await page.click("text=Create")
    await page.wait_for_selector("[data-set=good] >> text=0 episodes")

    await viewer.open("/episodes")
    for key in ("j", "Space", "j", "Space"):
        await page.keyboard.press(key)
    await page.select_option("[aria-label='Add to a set']", "add:good")
    await page.wait_for_selector("text=2 new in good")
    await viewer.open("/episodes?outcome=failure")
    failures = sum(drawing.outcome == "failure" for drawing in fleet.episodes)
    await page.select_option("[aria-label='Add to a set']", "add-all:good")
    await page.click("[role=alertdialog] >> text='Add'")
    await page.wait_for_selector(f"text={failures} new in good")
    await holds(viewer, "good", f"{2 + failures} episodes")
    await viewer.shot("sets")

    await page.click("[data-set=good] >> text=good")
    await page.wait_for_url("**/episodes?set=good")
    await page.wait_for_function("window.did_handshake === true")
    await page.keyboard.press("j")
    await page.select_option("[aria-label='Add to a set']", "remove:good")
    await page.wait_for_selector("text=1 out of good")
    await page.wait_for_function(f"document.querySelectorAll('a.lf-row').length === {1 + failures}")
    await viewer.shot("sets-episodes")

    await holds(viewer, "good", f"{1 + failures} episodes")
    async with page.expect_download() as download:
        await page.click("[data-set=good] >> text=JSON lines")
    lines = (await (await download.value).path()).read_text().splitlines()
    assert len(lines) == 1 + failures and all(len(json.loads(line)["sha256"]) == 64 for line in lines)

    other = await look(fleet.url, username="vic", **PHONE)
    await holds(other, "good", f"{1 + failures} episodes")
    assert await other.page.locator("text=Delete").count() == await other.page.locator("text=Create").count() == 0
    assert await other.page.evaluate("document.documentElement.scrollWidth") <= 390
    await other.shot("sets-phone")

    await page.click("[aria-label='Delete good']")
    await page.click("[role=alertdialog] >> text='Delete'")
    await page.wait_for_selector(".lf-empty")
