"""The table of episodes: filters live in the address, pages follow one another without gaps."""

import time

PATH = "/episodes"
FIRST_PAGE = 20


def ids(drawings) -> list[str]:
    return [drawing.episode_id for drawing in drawings]


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
