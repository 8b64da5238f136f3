"""The page of all legal holds: everybody reads it, administrators release from it."""

from functools import partial

import keeping
import pytest
from keeping import words
from test_phone import PHONE

from lefleet_server.deletion import holds

_ON_A_PAGE = 50


@pytest.fixture(scope="module")
def kept(serve, tmp_path_factory):
    """Held: robot-2, and after it episode 0."""
    kept = keeping.build(serve("holds"), tmp_path_factory.mktemp("held"))
    why = "A court asks for the whole arm"
    kept.server.do(partial(holds.place_on_robot, robot_id="robot-2", actor="user:root", reason=why))
    why = "The customer's lawyer asks for everything of that week"
    kept.server.do(partial(holds.place_on_episode, episode_id=kept.episodes[0], actor="user:ada", reason=why))
    return kept


async def lines(viewer):
    return await viewer.page.eval_on_selector_all("[data-hold]", "(all) => all.map((line) => line.dataset.hold)")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
@pytest.mark.parametrize("who", ["vic", "root"])
async def test_everybody_sees_what_is_held_and_only_administrators_may_release(kept, look, who, device, theme):
    viewer = await look(kept.url, who, **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": kept.url}])
    await viewer.open("/storage")
    await viewer.page.click("a[href='/holds']")
    await viewer.page.wait_for_url("**/holds")
    await viewer.page.wait_for_selector("[data-hold]")
    assert await lines(viewer) == [f"episode:{kept.episodes[0]}", "robot:robot-2"]
    said = await words(viewer, "[data-hold='robot:robot-2']")
    assert "A court asks for the whole arm" in said and "root" in said
    assert await viewer.page.locator("[data-hold] button").count() == (2 if who == "root" else 0)
    assert await viewer.page.evaluate("document.documentElement.scrollWidth") <= viewer.page.viewport_size["width"]
    await viewer.shot(f"{device}-holds-{who}-{theme}")
    await viewer.page.click("[data-hold='robot:robot-2'] a")
    await viewer.page.wait_for_url("**/robots/robot-2")


async def test_an_administrator_releases_from_the_list_and_others_see_it_go(kept, look):
    episode = kept.episodes[2]
    kept.server.do(partial(holds.place_on_episode, episode_id=episode, actor="user:ada", reason="Evidence"))
    admin, viewer = await look(kept.url, "root"), await look(kept.url, "vic")
    for each in (admin, viewer):
        await each.open("/holds")
        await each.page.wait_for_selector(f"[data-hold='episode:{episode}']")
    button = f"[aria-label='Release: episode:{episode}']"
    await admin.page.click(button)
    await admin.page.click(".lf-question:visible >> text=Cancel")
    await admin.page.wait_for_selector(".lf-question", state="hidden")
    assert await admin.page.is_visible(button)
    await admin.page.click(button)
    assert "It says: Evidence." in await words(admin, ".lf-question:visible")
    await admin.page.click(".lf-question:visible .is-danger")
    for each in (admin, viewer):
        await each.page.wait_for_selector(f"[data-hold='episode:{episode}']", state="detached")
        assert await lines(each) == [f"episode:{kept.episodes[0]}", "robot:robot-2"]
    entries = kept.entries(subject=f"episode:{episode}", action="hold")
    assert [(e["action"], e["actor"]) for e in entries] == [("hold.released", "user:root"), ("hold.placed", "user:ada")]


async def test_more_than_a_page_of_them_is_paged(kept, look):
    robots = [f"held-{number:02}" for number in range(_ON_A_PAGE)]
    for name in robots:
        kept.server.enrol(name).close()
        kept.server.do(partial(holds.place_on_robot, robot_id=name, actor="user:ada", reason=f"claim of {name}"))
    viewer = await look(kept.url, "vic")
    await viewer.open("/holds")
    await viewer.page.wait_for_selector("[data-hold]")
    assert await lines(viewer) == [f"robot:{name}" for name in reversed(robots)]
    await viewer.page.click("text=Older")
    await viewer.page.wait_for_selector("[data-hold='robot:robot-2']")
    assert await lines(viewer) == [f"episode:{kept.episodes[0]}", "robot:robot-2"]
    await viewer.page.click("text=Newest")
    await viewer.page.wait_for_selector(f"[data-hold='robot:{robots[-1]}']")
    for strange in ("x", "-1", "9" * 30, "9223372036854775808"):
        await viewer.open(f"/holds?before={strange}")
        await viewer.page.wait_for_selector(f"[data-hold='robot:{robots[-1]}']")
