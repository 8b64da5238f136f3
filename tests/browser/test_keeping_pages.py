"""Legal holds and deletion on the dashboard: each role sees what it may, and nothing goes by surprise."""

from functools import partial

import keeping
import pytest
from demotion import pressed_after
from keeping import hold, words
from test_phone import PHONE

from lefleet_server.accounts.models import Role
from lefleet_server.deletion import holds


@pytest.fixture(scope="module")
def kept(serve, tmp_path_factory):
    """Each test takes episodes of its own, by number."""
    return keeping.build(serve("keeping"), tmp_path_factory.mktemp("kept"))


async def test_an_operator_holds_an_episode_and_only_an_administrator_releases_it(kept, look):
    episode = kept.episodes[0]
    viewer = await look(kept.url, "vic")
    await viewer.open(f"/episodes/{episode}")
    assert not await viewer.page.is_visible(".lf-hold"), "there is nothing to say, and nothing to press"
    operator = await look(kept.url, "ada")
    await operator.open(f"/episodes/{episode}")
    assert not await operator.page.is_visible(".lf-hold button:has-text('Delete')")
    await hold(operator, "A customer complained")
    assert not await operator.page.is_visible(".lf-hold button:visible")
    await viewer.open(f"/episodes/{episode}")
    assert "A customer complained This episode, by ada" in await words(viewer, ".lf-hold")
    assert await viewer.page.locator(".lf-hold button:visible").count() == 0

    admin = await look(kept.url, "root")
    await admin.open(f"/episodes/{episode}")
    assert await admin.page.is_disabled(".lf-hold button:has-text('Delete')")
    await admin.page.click("text=Release the hold")
    await admin.page.click(".lf-question:visible >> text=Cancel")
    await admin.page.wait_for_selector(".lf-question", state="hidden")
    assert await admin.page.is_visible("[data-hold]")
    await admin.page.click("text=Release the hold")
    await admin.page.click(".lf-question .is-danger")
    await admin.page.wait_for_selector("[data-hold]", state="detached")
    assert not await admin.page.is_disabled(".lf-hold button:has-text('Delete')")
    entries = kept.entries(subject=f"episode:{episode}", action="hold")
    assert [(entry["action"], entry["actor"]) for entry in entries] == [
        ("hold.released", "user:root"),
        ("hold.placed", "user:ada"),
    ]
    assert entries[1]["detail"] == {"reason": "A customer complained"}


async def test_a_hold_on_a_robot_stands_on_its_page_and_on_its_episodes(kept, look):
    operator = await look(kept.url, "ada")
    await operator.open("/robots/robot-2")
    await hold(operator, "A court asks")
    await operator.page.wait_for_selector(".lf-event >> text=Legal hold placed")
    assert "All episodes of robot-2, by ada" in await words(operator, ".lf-hold")
    admin = await look(kept.url, "root")
    await admin.open(f"/episodes/{kept.episodes[1]}")
    assert "A court asks All episodes of robot-2, by ada" in await words(admin, ".lf-hold")
    assert not await admin.page.is_visible("text=Release the hold"), "it is the robot's"
    assert await admin.page.is_visible(".lf-hold >> text=/^Hold$/")
    await admin.page.click("[data-hold] a")
    await admin.page.wait_for_url("**/robots/robot-2")
    await admin.page.click("text=Release the hold")
    await admin.page.click(".lf-question .is-danger")
    await admin.page.wait_for_selector("[data-hold]", state="detached")
    assert [entry["actor"] for entry in kept.entries(subject="robot:robot-2", action="hold")] == [
        "user:root",
        "user:ada",
    ]


async def test_a_deletion_says_what_goes_and_its_address_who_and_why(kept, look):
    episode = kept.episodes[2]
    kept.judge_and_collect(episode, "unknown", "Somebody walks by", "for-review")
    admin = await look(kept.url, "root")
    page = admin.page
    await admin.open(f"/episodes/{episode}?robot=robot-1")
    await page.click(".lf-hold button:has-text('Delete')")
    await page.wait_for_selector("[name=reason]")
    says = await words(admin, ".lf-question:visible")
    assert "robot-1, unknown," in says and "removed from the store 1 day later" in says
    assert "unknown, Somebody walks by" in says and "for-review" in says
    await page.fill("[name=reason]", "   ")
    await page.press("[name=reason]", "Enter")
    await page.wait_for_selector("[role=alert] >> text=Say why")
    await page.fill("[name=reason]", "A face is in it")
    await page.wait_for_timeout(400)  # it fades in
    await admin.shot("keeping-delete")
    await page.click("text=Delete for good")
    await page.wait_for_selector("text=This episode was deleted")
    says = await words(admin, ".lf-main")
    assert "A face is in it" in says and "Deleted by root" in says and episode in says
    await admin.shot("keeping-tombstone")
    (entry,) = kept.entries(subject=f"episode:{episode}", action="episode.deleted")
    assert (entry["actor"], entry["detail"]["reason"]) == ("user:root", "A face is in it")
    viewer = await look(kept.url, "vic")
    await viewer.open(f"/episodes/{episode}")
    assert "A face is in it" in await words(viewer, ".lf-main")
    assert not await viewer.page.is_visible("text=What was done to it")
    await page.click("text=What was done to it")
    await page.wait_for_url("**/audit?subject=episode**")
    await page.go_back()
    await page.click(".lf-back")
    await page.wait_for_url("**/episodes?robot=robot-1")
    await page.wait_for_selector(f"[data-episode='{kept.episodes[0]}']")
    assert not await page.is_visible(f"[data-episode='{episode}']")


async def test_a_hold_that_was_placed_meanwhile_refuses_the_deletion_in_a_sentence(kept, look):
    episode = kept.episodes[3]
    admin = await look(kept.url, "root")
    await admin.open(f"/episodes/{episode}")
    await admin.page.click(".lf-hold button:has-text('Delete')")
    await admin.page.fill("[name=reason]", "Not needed")
    kept.server.do(partial(holds.place_on_episode, episode_id=episode, actor="user:ada", reason="Evidence"))
    await admin.page.press("[name=reason]", "Enter")
    note = admin.page.locator(".q-dialog [role=alert]")
    await note.wait_for()
    said = await note.inner_text()
    assert "under a legal hold" in said and "(Evidence)" in said and "an administrator can release it first" in said
    assert await admin.page.input_value("[name=reason]") == "Not needed"
    await admin.open(f"/episodes/{episode}")
    await admin.page.wait_for_selector("lf-player")
    assert kept.entries(subject=f"episode:{episode}", action="episode.deleted") == []
    kept.server.do(partial(holds.release_episode, episode_id=episode, actor="user:root"))


PRESS_DELETE = ".lf-hold button:has-text('Delete')"
REFUSED = """document.body.innerText.includes('This needs the role admin; yours is operator now')
    && !document.querySelector('[name=reason]')?.checkVisibility()"""


async def test_who_is_no_administrator_any_more_deletes_nothing_from_an_open_page(kept, look):
    path = f"/episodes/{kept.episodes[3]}"
    bob = await pressed_after(kept.server, look, path, PRESS_DELETE, REFUSED, becomes=Role.OPERATOR, name="bob")
    await bob.open("/storage")
    assert not await bob.page.is_visible("text=Retention")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
@pytest.mark.parametrize("who", ["vic", "ada", "root"])
async def test_how_a_hold_looks(kept, look, who, device, theme):
    episode = kept.episodes[4]
    why = "The customer's lawyer asks for everything of that week"
    kept.server.do(partial(holds.place_on_episode, episode_id=episode, actor="user:ada", reason=why))
    kept.server.do(partial(holds.place_on_robot, robot_id="robot-1", actor="user:root", reason="Arm under repair"))
    viewer = await look(kept.url, who, **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": kept.url}])
    for name, path in (("episode", f"/episodes/{episode}"), ("robot", "/robots/robot-1")):
        await viewer.open(path)
        await viewer.page.wait_for_selector("[data-hold]")
        width = await viewer.page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewer.page.viewport_size["width"], f"{path} is {width} px wide"
        await viewer.page.screenshot(
            path=f"tests/output/keeping-{who}-{device}-{theme}-{name}.png", full_page=True, animations="disabled"
        )
    kept.server.do(partial(holds.release_robot, robot_id="robot-1", actor="user:root"))
