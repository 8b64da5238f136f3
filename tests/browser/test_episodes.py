"""The table of episodes: filters live in the address, pages follow one another without gaps."""

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from test_phone import PHONE

PATH = "/episodes"
FIRST_PAGE = 20
FIRST_POLICY = "lefleet/act-so101-first"
NEWER, OLDER = slice(15, 19), slice(19, None)
"""Its episodes, by release."""


def ids(drawings) -> list[str]:
    return [drawing.episode_id for drawing in drawings]


def elsewhere() -> str:
    """A zone in which it is another day than it is in UTC."""
    return "Pacific/Kiritimati" if datetime.now(UTC).hour >= 12 else "Pacific/Pago_Pago"


def day(drawing, zone: str) -> str:
    at = datetime.fromtimestamp(drawing.started_wall_ns / 1e9, ZoneInfo(zone))
    return f"{at:%b} {at.day}, {at.year}"


async def shown(viewer) -> list[str]:
    rows = viewer.page.locator("a.lf-row")
    return [await row.get_attribute("data-episode") for row in await rows.all()]


async def settle(viewer, expected: list[str]) -> None:
    """Waits until exactly these rows are shown."""
    await viewer.page.wait_for_function(
        """wanted => {
            const rows = [...document.querySelectorAll("a.lf-row")].map((row) => row.dataset.episode);
            return rows.length === wanted.length && rows.every((id, i) => id === wanted[i]);
        }""",
        arg=expected,
    )


async def test_pages_follow_one_another_both_ways(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    assert await shown(viewer) == ids(fleet.episodes[:FIRST_PAGE])
    await viewer.page.click(".lf-pager >> text=Older")
    await viewer.page.wait_for_url("**/episodes?before=*")
    await settle(viewer, ids(fleet.episodes[FIRST_PAGE:]))
    await viewer.page.click(".lf-pager >> text=Newer")
    await viewer.page.wait_for_url("**/episodes?after=*")
    await settle(viewer, ids(fleet.episodes[:FIRST_PAGE]))


async def test_filters_narrow_the_table_and_stay_in_the_address(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    await viewer.page.select_option("[aria-label=Robot]", "robot-2")
    await settle(viewer, ids(d for d in fleet.episodes if d.robot_id == "robot-2"))
    await viewer.page.select_option("[aria-label=Outcome]", "failure")
    wanted = ids(d for d in fleet.episodes if d.robot_id == "robot-2" and d.outcome == "failure")
    await settle(viewer, wanted)
    await viewer.page.wait_for_url("**/episodes?robot=robot-2&outcome=failure")
    await viewer.page.reload()
    await settle(viewer, wanted)
    assert await viewer.page.input_value("[aria-label=Robot]") == "robot-2"
    await viewer.shot("episodes-filtered")
    await viewer.page.click("text=Clear filters")
    await settle(viewer, ids(fleet.episodes[:FIRST_PAGE]))


async def test_policy_and_interruption_are_filters(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    await viewer.page.select_option("[aria-label=Policy]", "lefleet/act-so101-first")
    await settle(viewer, ids(fleet.episodes[15:]))
    await viewer.page.select_option("[aria-label=Ended]", "yes")
    await settle(viewer, ids(d for d in fleet.episodes[15:] if d.interrupted))


async def test_a_policys_releases_are_a_filter_once_it_is_chosen(fleet, look):
    viewer = await look(fleet.url, timezone_id=elsewhere(), locale="en-US")
    release = viewer.page.locator("[aria-label=Release]")
    await viewer.open(PATH)
    assert not await release.is_visible()
    await viewer.page.select_option("[aria-label=Policy]", FIRST_POLICY)
    await release.wait_for()
    newest = [fleet.episodes[part][0] for part in (NEWER, OLDER)]
    said = [f"{d.policy_commit[:7]}, last {day(d, elsewhere())}" for d in newest]
    labels = await release.locator("option").evaluate_all("options => options.map((option) => option.label)")
    assert labels == ["All releases", *said]
    await release.select_option(newest[1].policy_commit)
    await settle(viewer, ids(fleet.episodes[OLDER]))
    await viewer.page.wait_for_url(f"**/episodes?policy=*&release={newest[1].policy_commit}")
    await viewer.shot("episodes-release")
    await viewer.page.reload()
    await settle(viewer, ids(fleet.episodes[OLDER]))
    assert await release.input_value() == newest[1].policy_commit
    # Another policy has other releases.
    await viewer.page.select_option("[aria-label=Policy]", "lefleet/act-so101-block")
    await settle(viewer, ids(fleet.episodes[:15]))
    await viewer.page.wait_for_url("**/episodes?policy=lefleet%2Fact-so101-block")
    await viewer.page.wait_for_function("document.querySelectorAll('[aria-label=Release] option').length === 2")
    await viewer.page.select_option("[aria-label=Policy]", "")
    await release.wait_for(state="hidden")


async def test_release_and_task_are_chosen_by_the_keyboard(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    keys = viewer.page.keyboard
    await viewer.page.focus("[aria-label=Policy]")
    for _ in range(2):
        await keys.press("ArrowDown")
    await settle(viewer, ids(fleet.episodes[15:]))
    await viewer.page.wait_for_function("document.querySelectorAll('[aria-label=Release] option').length === 3")
    await keys.press("Tab")
    for _ in range(2):
        await keys.press("ArrowDown")
    await settle(viewer, ids(fleet.episodes[OLDER]))
    await keys.press("Tab")
    await keys.press("ArrowDown")
    folded = [d for d in fleet.episodes[OLDER] if d.task == "Fold the towel"]
    assert folded
    await settle(viewer, ids(folded))
    await viewer.page.wait_for_url("**&task=Fold+the+towel")


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_release_and_task_are_under_the_thumb_on_a_phone(fleet, look, theme):
    viewer = await look(fleet.url, **PHONE)
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": fleet.url}])
    await viewer.open(f"{PATH}?policy={FIRST_POLICY}&task=Fold the towel, then put it with the others, and so on")
    for label in ("Policy", "Release", "Task"):
        place = await viewer.page.locator(f"[aria-label={label}]").bounding_box()
        assert place["height"] >= 40 and place["x"] + place["width"] <= 390
    assert await viewer.page.evaluate("document.documentElement.scrollWidth") <= 390
    await viewer.page.select_option("[aria-label=Task]", "Fold the towel")
    await settle(viewer, ids(d for d in fleet.episodes[15:] if d.task == "Fold the towel"))
    await viewer.shot(f"phone-episodes-filters-{theme}")


async def test_time_ranges_are_in_the_viewers_zone(fleet, look):
    viewer = await look(fleet.url, timezone_id="Asia/Tokyo")
    await viewer.open(PATH)
    await viewer.page.select_option("[aria-label=Time]", "1h")
    recent = [d for d in fleet.episodes if d.started_wall_ns > time.time_ns() - 3600 * 10**9]
    rows = await viewer.page.wait_for_function("document.querySelectorAll('a.lf-row').length < 20")
    assert rows
    assert abs(len(await shown(viewer)) - len(recent)) <= 1
    await viewer.page.select_option("[aria-label=Time]", "custom")
    moment = fleet.episodes[9].started_wall_ns // 10**6 + 60_000
    local = await viewer.page.evaluate(
        "ms => new Date(ms + 9 * 3600e3).toISOString().slice(0, 16)", moment
    )  # Tokyo has no summer time
    await viewer.page.fill("[aria-label=To]", local)
    await viewer.page.dispatch_event("[aria-label=To]", "change")
    await viewer.page.wait_for_url("**/episodes?until=*")
    wanted = [d for d in fleet.episodes if d.started_wall_ns < moment // 60_000 * 60_000 * 10**6]
    await settle(viewer, ids(wanted)[:FIRST_PAGE])


async def test_filters_without_a_match_say_what_to_do(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(f"{PATH}?robot=robot-1&until=2001-01-01T00:00:00Z")
    assert "Nothing matches these filters" in await viewer.page.inner_text(".lf-empty")
    await viewer.page.click("text=Show all episodes")
    await viewer.page.wait_for_url(f"{fleet.url}{PATH}")


async def test_an_address_nobody_could_read_shows_everything(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(f"{PATH}?outcome=wonderful&since=yesterday&before=x~y&interrupted=maybe&last=9y")
    assert await shown(viewer) == ids(fleet.episodes[:FIRST_PAGE])


async def test_rows_show_the_first_and_the_last_picture(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    await viewer.page.wait_for_function(
        "[...document.querySelectorAll('a.lf-row:nth-child(2) img')].filter((i) => i.naturalWidth === 480).length === 2"
    )
    await viewer.page.wait_for_load_state("networkidle")
    await viewer.shot("episodes")
