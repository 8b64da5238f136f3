"""A fleet of 120: the table, its filters and order, saved views, a selection, the keyboard; as viewer and operator."""

import pytest
from sqlalchemy import update
from test_phone import PHONE

from lefleet_server.robots.models import Robot

ROBOTS = 120
POLICY = {"commit": "1" * 40, "digest": "", "type": "act"}


@pytest.fixture(scope="module")
def many(serve):
    """arm-001 to arm-120 at two sites: every tenth late, 007 nearly out of disk, 013 in fault, 100 silent."""
    server = serve("many")
    made = {}
    for number in range(1, ROBOTS + 1):
        name = f"arm-{number:03}"
        made[name] = server.enrol(name, "north" if number <= 60 else "south")
        if number != 100:
            say(made[name], number)
    yield server, made
    for robot in made.values():
        robot.close()


def say(robot, number, **changes):
    late = 14.0 + number / 100 if number % 10 == 0 else 3.0
    loop = {"hz": 29.9, "lateness_ms_p50": 1, "lateness_ms_p99": late, "lateness_ms_max": 30, "ticks": 1, "late": 1}
    disk = {"free_bytes": 10**9 if number == 7 else 3 * 10**11, "total_bytes": 5 * 10**11}
    policy = POLICY | {"repo": "lab/act-block" if number % 2 else "lab/act-cup"}
    state = "fault" if number == 13 else "running"
    robot.heartbeat(**{"loop": loop, "disk": disk, "policy": policy, "state": state} | changes)


@pytest.fixture
async def table(many, look):
    """A viewer's table, after every robot but one has just spoken."""
    server, robots = many

    async def open_(username="ada", path="/?view=table", **options):
        viewer = await look(server.url, username, **options)
        for number, robot in enumerate(robots.values(), 1):
            if number != 100:
                say(robot, number)
        await viewer.open(path)
        await viewer.page.wait_for_selector("[data-robot]")
        return viewer

    return open_


async def shown(page) -> list[str]:
    return await page.eval_on_selector_all("[data-robot]", "all => all.map((each) => each.dataset.robot)")


async def test_only_what_is_in_sight_is_built(many, table):
    viewer = await table(path="/")
    page = viewer.page
    assert await page.get_attribute("lf-fleet", "data-view") == "table"
    assert len(await shown(page)) == ROBOTS
    built = "document.querySelectorAll('[data-robot]:not(:empty)').length"
    await page.wait_for_function(f"{built} > 5")
    assert await page.evaluate(built) < ROBOTS / 2
    assert await page.evaluate("document.querySelector('[data-robot=arm-120]').matches(':empty')")
    await page.evaluate("document.querySelector('[data-robot=arm-120]').scrollIntoView()")
    await page.wait_for_selector("[data-robot=arm-120] >> text=Running")
    await page.wait_for_selector("[data-robot=arm-001]:empty", state="attached")
    assert await page.evaluate(built) < ROBOTS / 2


async def test_a_heartbeat_changes_its_cells_alone(many, table):
    viewer = await table()
    page = viewer.page
    await page.eval_on_selector("[data-robot=arm-002]", "row => row.firstChild.marked = true")
    say(many[1]["arm-002"], 2, state="drained")
    await page.wait_for_selector("[data-robot=arm-002] >> text=Resting")
    assert await page.eval_on_selector("[data-robot=arm-002]", "row => row.firstChild.marked")
    await viewer.shot("desk-fleet-table")


async def test_all_that_is_wrong_is_a_press_away(many, table):
    robot = many[1]["arm-004"]
    drift = {"roles": ["swap"], "checked_unix_s": 0}
    viewer, phone = await table(), await table(**PHONE)
    row = "[data-robot=arm-004]"
    assert not await viewer.page.is_visible(f"{row} .lf-more")
    for each in (viewer, phone):
        say(robot, 4, state="fault", drift=drift, disk={"free_bytes": 10**9, "total_bytes": 5 * 10**11})
        await each.page.wait_for_selector(f"{row} .lf-more >> text=+2")
        more = each.page.locator(f"{row} .lf-more")
        await (more.press("Enter") if each is viewer else more.tap())
        issues = each.page.locator(f"{row} .lf-issue")
        assert [text.split(":")[0] for text in await issues.all_inner_texts()] == [
            "Fault", "Disk 100 % full", "Differs from its roles"
        ]  # fmt: skip
        assert await issues.last.is_visible()
        assert await each.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await each.shot(f"{'desk' if each is viewer else 'phone'}-fleet-issues")
        await more.click()
        assert not await issues.last.is_visible()
    say(robot, 4)
    await viewer.page.wait_for_selector(f"{row} .lf-more", state="hidden")


async def test_a_robot_that_moves_to_another_site_leaves_the_filter(many, table):
    server = many[0]
    viewer = await table(path="/?view=table&site=south")
    await viewer.page.wait_for_selector("[data-robot=arm-119]", state="attached")
    try:
        server.do(moved("arm-119", "north"))
        await viewer.page.wait_for_selector("[data-robot=arm-119]", state="detached")
    finally:
        server.do(moved("arm-119", "south"))


def moved(robot_id, site):
    async def move(session):
        await session.execute(update(Robot).where(Robot.id == robot_id).values(site=site))

    return move


async def test_filters_live_in_the_address(table):
    viewer = await table()
    page = viewer.page
    await page.select_option("[aria-label=Site]", "south")
    await page.select_option("[aria-label=Policy]", "lab/act-cup")
    await page.fill("[aria-label='Search robots']", "arm-06")
    wanted = [f"arm-{number:03}" for number in (62, 64, 66, 68)]
    assert await shown(page) == wanted
    assert "site=south" in page.url and "q=arm-06" in page.url
    await viewer.open(page.url.removeprefix(viewer.url))
    await page.wait_for_selector("[data-robot]")
    assert await shown(page) == wanted
    assert "4 of 120 robots" in await page.inner_text(".lf-count")
    await page.fill("[aria-label='Search robots']", "no such robot")
    await page.wait_for_selector("text=No robot matches")
    await page.click("text=Clear filters")
    assert len(await shown(page)) == ROBOTS


async def test_health_is_seen_and_filtered(table):
    viewer = await table()
    page = viewer.page
    await page.click("[data-health=bad].lf-segment")
    assert await shown(page) == ["arm-007", "arm-013", "arm-100"]
    await page.wait_for_selector("[data-robot=arm-007] >> text=Disk 100 % full")  # a row is built once it is in sight
    await page.wait_for_selector("[data-robot=arm-013] >> text=Fault")
    await page.click("[data-health=warn].lf-segment")
    assert await shown(page) == [f"arm-{number:03}" for number in range(10, 121, 10) if number != 100]
    await page.wait_for_selector("[data-robot=arm-010] >> text=Late by 14.1 ms")


async def test_a_column_orders_both_ways_and_the_silent_come_last(table):
    viewer = await table()
    await viewer.page.click("[data-sort=late]")
    order = await shown(viewer.page)
    assert order[-2:] == ["arm-120", "arm-100"]
    await viewer.page.click("[data-sort=late]")
    order = await shown(viewer.page)
    assert order[:2] == ["arm-120", "arm-110"] and order[-1] == "arm-100"


async def test_a_view_is_kept_for_one_person(many, table):
    viewer = await table(path="/?view=table&site=north&health=warn")
    page = viewer.page
    await page.click("text=Save view")
    await page.fill("[aria-label='Name of the view']", "Late in the north")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("[aria-label=View] >> text=Late in the north", state="attached")
    await viewer.open("/")
    await page.select_option("[aria-label=View]", "Late in the north")
    assert await shown(page) == [f"arm-{number:03}" for number in range(10, 61, 10)]
    await page.focus("[aria-label=View]")
    await page.eval_on_selector("[aria-label=View]", "select => select.lastChild.marked = true")
    say(many[1]["arm-010"], 10, state="drained")
    await page.wait_for_selector("[data-robot=arm-010] >> text=Resting")
    assert await page.eval_on_selector("[aria-label=View]", "select => select.lastChild.marked"), "under an open list"
    say(many[1]["arm-010"], 10)
    reader = await table("vic")
    assert not await reader.page.is_visible("[aria-label=View]")
    await page.click("text=Delete view")
    await page.wait_for_selector("[aria-label=View]", state="hidden")


async def test_a_selection_is_stopped_after_a_question_and_released(many, table):
    robots = many[1]
    viewer = await table()
    page = viewer.page
    await page.click("[aria-label='Select arm-003']")
    await page.click("[aria-label='Select arm-005']", modifiers=["Shift"])
    assert "3 selected" in await page.inner_text(".lf-chosen")
    await page.click(".lf-chosen >> text=Emergency stop")
    assert "Stop arm-003, arm-004, arm-005?" in await page.inner_text(".lf-question")
    await page.wait_for_timeout(400)  # it fades in
    await viewer.shot("desk-fleet-selection")
    await page.click(".lf-question >> text=Cancel")
    await page.wait_for_selector(".lf-question", state="hidden")
    assert not robots["arm-004"].wish()["wanted"]
    await page.click(".lf-chosen >> text=Emergency stop")
    await page.click(".lf-question .is-primary")
    await page.wait_for_selector("[data-robot=arm-004] [data-stop=stopping]")
    wishes = {name: robots[name].wish() for name in ("arm-003", "arm-004", "arm-005", "arm-006")}
    assert [wish["wanted"] for wish in wishes.values()] == [True, True, True, False]
    await page.click(".lf-chosen >> text=Release")
    await page.click(".lf-question .is-primary")
    for number in (3, 4, 5):
        await page.wait_for_selector(f"[data-robot=arm-00{number}] :is([data-stop=releasing], [data-stop=free])")
        robot = robots[f"arm-00{number}"]
        say(robot, number, estop={"wish": robot.wish()["number"], "holds": False})


async def test_a_viewer_selects_and_cannot_stop(table):
    viewer = await table("vic")
    await viewer.page.click("[aria-label='Select arm-003']")
    assert await viewer.page.is_disabled(".lf-chosen >> text=Emergency stop")
    assert await viewer.page.is_disabled("[aria-label='Emergency stop of arm-003']")


async def test_the_keyboard_does_it_too_and_lists_itself(table):
    viewer = await table()
    page = viewer.page
    press = page.keyboard.press
    await press("j")
    await press("j")
    await press("x")
    assert await page.is_checked("[aria-label='Select arm-002']")
    await press("Escape")
    assert not await page.is_visible(".lf-chosen")
    await press("/")
    await page.keyboard.type("arm-11")
    assert len(await shown(page)) == 10
    await press("Escape")
    await press("a")
    assert "10 selected" in await page.inner_text(".lf-chosen")
    await press("?")
    assert "Only robots that need attention" in await page.inner_text("dialog")
    await viewer.shot("desk-fleet-keys")
    await press("Escape")
    await press("c")
    await page.wait_for_selector("article[data-robot=arm-110] lf-camera", state="attached")
    await press("j")
    await press("Enter")
    await page.wait_for_url("**/robots/arm-110")


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_the_table_fits_a_phone(table, theme):
    viewer = await table("root", path="/", **PHONE)
    page = viewer.page
    await page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": viewer.url}])
    await viewer.open("/")
    await page.wait_for_selector("[data-robot=arm-001] >> text=arm-001")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (await page.locator("[aria-label='Emergency stop of arm-001']").bounding_box())["height"] >= 44
    await viewer.shot(f"phone-fleet-table-{theme}")
