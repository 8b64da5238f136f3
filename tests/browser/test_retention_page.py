"""Retention rules on the storage page: in sentences, tried before they count, changed by administrators alone."""

from functools import partial

import keeping
import pytest
from keeping import words
from sqlalchemy import text
from test_phone import PHONE

from lefleet_server.deletion import holds
from lefleet_server.retention import service
from lefleet_server.retention.rules import Rule

OLD_FAILURES = Rule("old-failures", older_than_days=5.5, outcomes=frozenset({"failure"}))
SENTENCE = "Episodes that ended as failure go once older than 5.5 days."


@pytest.fixture(scope="module")
def kept(serve, tmp_path_factory):
    """Of the failures, 2 and 3 are older than 5.5 days, and 3 is held."""
    made = keeping.build(serve("retention", retention_hour_utc=3), tmp_path_factory.mktemp("kept"))
    made.server.do(partial(holds.place_on_episode, episode_id=made.episodes[3], actor="user:ada", reason="Evidence"))
    return made


@pytest.fixture(autouse=True)
def without_rules(kept):
    kept.server.do(_forget_rules)


async def _forget_rules(session):
    await session.execute(text("DELETE FROM retention_rules"))
    await session.execute(text("DELETE FROM retention_runs"))


@pytest.fixture
def rule(kept):
    kept.server.do(partial(service.add_rule, rule=OLD_FAILURES, actor="user:root"))


@pytest.fixture
async def admin(kept, look):
    viewer = await look(kept.url, "root")
    await viewer.open("/storage")
    return viewer


@pytest.mark.parametrize("who", ["vic", "ada"])
async def test_rules_are_for_administrators(kept, rule, look, who):
    viewer = await look(kept.url, who)
    await viewer.open("/storage")
    await viewer.page.wait_for_selector("[data-robot=robot-1]")
    assert not await viewer.page.is_visible("text=Retention")
    assert "old-failures" not in await viewer.page.content()


async def test_a_new_rule_is_refused_until_it_is_right_and_then_says_what_would_go(kept, admin):
    page = admin.page
    assert "Nothing is deleted unless an administrator deletes it by hand" in await words(admin, ".lf-main")
    await page.click("text=New rule")
    await page.fill("[name=name]", "Old failures")
    await page.press("[name=name]", "Enter")
    await page.wait_for_selector("[role=alert] >> text=The name 'Old failures' has more than small letters")
    await page.fill("[name=name]", "old-failures")
    await page.press("[name=name]", "Enter")
    await page.wait_for_selector("[role=alert] >> text=without, the rule would delete everything")
    await page.fill("[name=days]", "5.5")
    await page.fill("[name=robots]", "robot-1, robto-2")
    await page.check("[name=outcomes][value=failure]")
    await page.press("[name=days]", "Enter")
    await page.wait_for_selector("[role=alert] >> text=There is no robot 'robto-2'")
    assert await page.input_value("[name=days]") == "5.5", "what was typed stays"
    assert await page.is_checked("[name=outcomes][value=failure]")
    await page.wait_for_timeout(400)  # it fades in
    await admin.shot("retention-form")
    await page.fill("[name=robots]", "")
    await page.click("text=Add the rule")
    line = page.locator("[data-rule=old-failures]")
    await line.wait_for()
    said = await line.inner_text()
    assert SENTENCE in said and "Off" in said
    await page.wait_for_selector(f"[data-planned='{kept.episodes[2]}']")
    plan = await words(admin, ".lf-plan")
    assert "1 episode (" in plan and "would go. Nothing was deleted yet." in plan
    assert "would go too, were it not for a legal hold" in plan
    held = page.locator(f"[data-planned='{kept.episodes[3]}']")
    assert "Evidence, ada" in await held.inner_text()
    await admin.shot("retention-plan")
    (entry,) = kept.entries(action="retention.rule-changed")[:1]
    assert (entry["actor"], entry["subject"]) == ("user:root", "retention-rule:old-failures")
    assert entry["detail"]["new"]["enabled"] is False and entry["detail"]["new"]["outcomes"] == ["failure"]
    await page.click("text=Close")
    await page.click("text=New rule")
    await page.fill("[name=name]", "old-failures")
    await page.fill("[name=quota]", "0.5")
    await page.press("[name=quota]", "Enter")
    await page.wait_for_selector("[role=alert] >> text=There is a rule 'old-failures' already")


async def test_a_rule_is_enabled_after_a_question_that_counts_and_says_its_next_run(kept, rule, admin):
    page = admin.page
    assert "no rule is enabled" in await words(admin, ".lf-rules-state")
    await page.click("[aria-label='Enable: old-failures']")
    await page.wait_for_selector(".lf-question:visible >> text=It would delete 1 episode")
    await page.wait_for_timeout(400)  # it fades in
    await admin.shot("retention-enable")
    await page.click(".lf-question .is-danger")
    await page.wait_for_selector("[data-rule=old-failures] >> text=Enabled")
    said = await words(admin, ".lf-rules-state")
    assert "The next run" in said
    at = await page.get_attribute(".lf-rules-state lf-time", "datetime")
    assert at.endswith("T03:00:00+00:00")
    await page.click("text=What would go now")
    await page.wait_for_selector(".lf-plan >> text=The enabled rules would delete now")
    await page.wait_for_selector(f"[data-planned='{kept.episodes[2]}']")
    await page.click("[aria-label='Disable: old-failures']")
    await page.wait_for_selector("[data-rule=old-failures] >> text=Off")
    await page.click("text=What would go now")
    await page.wait_for_selector(".lf-plan >> text=Nothing would go")
    changed = kept.entries(action="retention.rule-changed")[:2]
    assert [entry["detail"]["new"]["enabled"] for entry in changed] == [False, True]
    assert {entry["actor"] for entry in changed} == {"user:root"}


async def test_an_edited_rule_keeps_what_was_not_touched_and_is_off(kept, rule, admin):
    page = admin.page
    await page.click("[aria-label='Enable: old-failures']")
    await page.click(".lf-question .is-danger")
    await page.wait_for_selector("[data-rule=old-failures] >> text=Enabled")
    await page.click("[aria-label='Edit: old-failures']")
    assert await page.input_value("[name=days]") == "5.5"
    assert await page.is_checked("[name=outcomes][value=failure]")
    await page.fill("[name=quota]", "0.000001234")
    await page.select_option("[name=labelled]", "no")
    await page.press("[name=quota]", "Enter")
    await page.wait_for_selector("[data-rule=old-failures] >> text=judged by nobody")
    await page.wait_for_selector("[data-rule=old-failures] >> text=Off")
    new = kept.entries(action="retention.rule-changed")[0]["detail"]["new"]
    assert new == {
        "older_than_days": 5.5, "quota_bytes": 1234, "outcomes": ["failure"], "robots": [], "labelled": False,
        "enabled": False,
    }  # fmt: skip
    await page.click("[aria-label='Edit: old-failures']")
    assert await page.input_value("[name=quota]") == "0.000001234"


async def test_what_somebody_else_changed_meanwhile_is_not_overwritten(kept, rule, admin):
    page = admin.page
    await page.click("[aria-label='Edit: old-failures']")
    wider = Rule("old-failures", older_than_days=0)
    kept.server.do(partial(service.put_rule, rule=wider, enabled=False, actor="user:bob"))
    await page.fill("[name=days]", "9")
    await page.press("[name=days]", "Enter")
    await page.wait_for_selector("[role=alert] >> text=Bob changed the rule 'old-failures' meanwhile")
    await page.click(".q-dialog >> text=Cancel")
    await page.wait_for_selector("[data-rule=old-failures] >> text=once older than 0 days", timeout=20_000)


async def test_a_rule_is_removed_after_a_question(kept, rule, admin):
    page = admin.page
    await page.click("[aria-label='Remove: old-failures']")
    await page.click(".lf-question:visible >> text=Cancel")
    await page.wait_for_selector(".lf-question", state="hidden")
    assert await page.is_visible("[data-rule=old-failures]")
    await page.click("[aria-label='Remove: old-failures']")
    await page.click(".lf-question .is-danger")
    await page.wait_for_selector("text=No rules")
    entry = kept.entries(action="retention.rule-removed")[0]
    assert (entry["actor"], entry["detail"]["old"]["older_than_days"]) == ("user:root", 5.5)


@pytest.mark.parametrize(("device", "theme"), [("desk", "dark"), ("phone", "light")])
async def test_a_night_that_would_have_deleted_too_much_says_so(kept, rule, look, device, theme):
    kept.server.do(_refuse_the_night)
    viewer = await look(kept.url, "root", **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": kept.url}])
    await viewer.open("/storage")
    said = viewer.page.locator(".lf-rules-state .is-bad")
    await said.wait_for()
    assert "deleted nothing: the rules would delete 7 of 8 episodes" in await said.inner_text()
    await said.scroll_into_view_if_needed()
    await viewer.shot(f"retention-refused-{device}-{theme}")


async def _refuse_the_night(session):
    refused = "the rules would delete 7 of 8 episodes, more than retention_most_percent = 25"
    night = "INSERT INTO retention_runs (day, worker, ended_at, refused) VALUES (current_date, 'w', now(), :refused)"
    await session.execute(text(night), {"refused": refused})


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
async def test_how_rules_look(kept, rule, look, device, theme):
    quota = Rule("everything", quota_bytes=1000, robots=frozenset({"robot-1", "robot-2"}), labelled=False)
    kept.server.do(partial(service.put_rule, rule=quota, enabled=True, actor="user:root"))
    viewer = await look(kept.url, "root", **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": kept.url}])
    await viewer.open("/storage")
    await viewer.page.click("text=What would go now")
    await viewer.page.wait_for_selector("[data-planned]")
    width = await viewer.page.evaluate("document.documentElement.scrollWidth")
    assert width <= viewer.page.viewport_size["width"], f"{width} px wide"
    name = f"tests/output/retention-{device}-{theme}"
    await viewer.page.screenshot(path=f"{name}.png", full_page=True, animations="disabled")
    await viewer.page.click("[aria-label='Edit: everything']")
    await viewer.page.wait_for_selector("[name=quota]")
    await viewer.page.wait_for_timeout(400)  # it fades in
    await viewer.page.screenshot(path=f"{name}-form.png", animations="disabled")
