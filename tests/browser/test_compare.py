"""The comparison's page: counts that match, words that are honest, filters and baseline in the address."""

import pytest
from test_episodes import settle

PATH = "/compare"
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
NEW, OLD = "lefleet/act-so101-block", "lefleet/act-so101-first"


def counts(fleet, policy: str, robot: str | None = None) -> str:
    mine = [d for d in fleet.episodes if d.policy_repo == policy and robot in (None, d.robot_id)]
    return f"{sum(d.outcome == 'success' for d in mine)} of {len(mine)}"


async def said(viewer, policy: str) -> str:
    return await viewer.page.inner_text(f"[data-group='{policy}']")


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_two_policies_stand_beside_one_another(fleet, look, theme):
    viewer = await look(fleet.url, username="vic")
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": fleet.url}])
    await viewer.open(PATH)
    assert counts(fleet, NEW) in await said(viewer, NEW) and "Baseline" in await said(viewer, NEW)
    text = await said(viewer, OLD)
    assert "Cannot tell yet" in text and f"{counts(fleet, OLD)} and {counts(fleet, NEW)}" in text
    await viewer.shot(f"compare-{theme}")


async def test_the_choice_of_baseline_and_filters_stays_in_the_address(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    await viewer.page.click(f"[data-group='{OLD}'] >> text=Use as baseline")
    await viewer.page.wait_for_selector(f"[data-group='{OLD}'] >> text=Baseline")
    await viewer.page.select_option("[aria-label=Robot]", "robot-1")
    await viewer.page.wait_for_selector(f"[data-group='{NEW}'] >> text={counts(fleet, NEW, 'robot-1')}")
    await viewer.page.wait_for_url("**/compare?robot=robot-1&baseline=*")
    await viewer.page.reload()
    assert "Baseline" in await said(viewer, OLD)
    await viewer.page.click("text=Releases")
    await viewer.page.wait_for_selector(f"[data-group^='{NEW}@']")
    await viewer.page.wait_for_url("**/compare?robot=robot-1&by=release")


async def test_it_is_reached_from_the_list_with_its_filters(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open("/episodes?robot=robot-2")
    await viewer.page.click(".lf-actions >> text=Compare")
    await viewer.page.wait_for_url("**/compare?robot=robot-2")
    assert counts(fleet, NEW, "robot-2") in await said(viewer, NEW)


async def test_a_release_leads_to_its_own_episodes(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(f"{PATH}?by=release&robot=robot-1")
    mine = [d for d in fleet.episodes if d.policy_repo == OLD and d.robot_id == "robot-1"]
    assert len({d.policy_commit for d in mine}) == 2
    commit = mine[-1].policy_commit
    await viewer.page.click(f"[data-group='{OLD}@{commit}'] a")
    await viewer.page.wait_for_url(f"**/episodes?robot=robot-1&policy=lefleet%2Fact-so101-first&release={commit}")
    await settle(viewer, [d.episode_id for d in mine if d.policy_commit == commit])
    assert await viewer.page.input_value("[aria-label=Release]") == commit


async def test_filters_without_a_match_say_what_to_do(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(f"{PATH}?until=2001-01-01T00:00:00Z&baseline=nobody/nothing")
    assert "Nothing matches these filters" in await viewer.page.inner_text(".lf-empty")


async def test_it_fits_a_phone(fleet, look):
    viewer = await look(fleet.url, **PHONE)
    await viewer.open(PATH)
    await viewer.page.wait_for_selector(".lf-compare-row")
    assert await viewer.page.evaluate("document.documentElement.scrollWidth") <= 390
    await viewer.shot("compare-phone")
