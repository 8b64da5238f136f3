"""Labelling many episodes from the table by keyboard, by mouse and by thumb; undo; the way to the next one."""

import re

PATH = "/episodes"
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
AT = "a.lf-row.is-at"


async def are(viewer, labels, expected: dict) -> None:
    """Waits for these labels: a change goes over the live connection."""
    for _ in range(200):
        if await labels() == expected:
            return
        await viewer.page.wait_for_timeout(50)
    assert await labels() == expected


async def chosen(viewer, count: int) -> None:
    await viewer.page.wait_for_selector(f"lf-selection[data-chosen='{count}']")


async def test_three_are_chosen_by_keys_and_labelled_with_one(fleet, look, labels):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    ids = [drawing.episode_id for drawing in fleet.episodes]
    keys = viewer.page.keyboard
    for key in ("j", "Space", "j", "j", "Space", "k", "Space"):
        await keys.press(key)
    await chosen(viewer, 3)
    await viewer.shot("labelling-chosen")
    await keys.press("f")
    await are(viewer, labels, dict.fromkeys(ids[:3], ("failure", None)))
    await chosen(viewer, 3)  # still, so that a note can follow
    await keys.press("l")
    await keys.type("dark")
    await keys.press("Enter")
    await are(viewer, labels, dict.fromkeys(ids[:3], ("failure", "dark")))
    await keys.press("z")
    await are(viewer, labels, dict.fromkeys(ids[:3], ("failure", None)))
    await keys.press("Escape")
    await chosen(viewer, 0)
    await keys.press("?")
    listed = await viewer.page.inner_text("dialog")
    assert all(what in listed for what in ("Next episode", "Space", "Label as failure", "Undo", "Next unlabelled"))
    await viewer.shot("labelling-keys")
    await keys.press("j")
    await keys.press("Escape")
    await viewer.page.wait_for_selector("dialog", state="detached")
    assert await viewer.page.get_attribute(AT, "data-episode") == ids[1], "the keys rest under a dialog"


async def test_without_a_choice_a_key_judges_and_goes_on(fleet, look, labels):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    await viewer.page.keyboard.press("j")
    for key in ("s", "f", "u"):
        await viewer.page.keyboard.press(key)
    ids = [drawing.episode_id for drawing in fleet.episodes]
    await are(viewer, labels, dict(zip(ids, [("success", None), ("failure", None), ("unknown", None)], strict=False)))
    assert await viewer.page.get_attribute(AT, "data-episode") == ids[3]


async def test_judged_episodes_leave_the_list_of_those_to_judge(fleet, look, labels):
    viewer = await look(fleet.url)
    await viewer.open(f"{PATH}?labelled=no&robot=robot-2")
    ids = [drawing.episode_id for drawing in fleet.episodes if drawing.robot_id == "robot-2"]
    await viewer.page.keyboard.press("a")
    await chosen(viewer, len(ids))
    await viewer.page.click("lf-selection >> text=Unknown")
    await are(viewer, labels, dict.fromkeys(ids, ("unknown", None)))
    await viewer.page.wait_for_selector(".lf-empty")
    await viewer.page.click("lf-selection >> text=Undo")
    await are(viewer, labels, {})
    await viewer.page.wait_for_selector("a.lf-row")


async def test_one_episode_after_another_at_two_keys_each(fleet, look, labels):
    viewer = await look(fleet.url)
    await viewer.open(f"{PATH}?robot=robot-2")
    ids = [drawing.episode_id for drawing in fleet.episodes if drawing.robot_id == "robot-2"]
    await viewer.page.keyboard.press("n")
    for number, id_ in enumerate(ids[:3]):
        await viewer.page.wait_for_url(f"**/episodes/{id_}?robot=robot-2")
        await viewer.page.wait_for_selector("lf-player[data-state=paused]")
        await viewer.page.wait_for_function("window.did_handshake === true")
        await viewer.page.keyboard.press("f")
        await are(viewer, labels, dict.fromkeys(ids[: number + 1], ("failure", None)))
        await viewer.page.keyboard.press("n")
    await viewer.page.wait_for_url(f"**/episodes/{ids[3]}?robot=robot-2")


async def test_a_thumb_chooses_and_labels_on_a_phone(fleet, look, labels):
    viewer = await look(fleet.url, **PHONE)
    await viewer.open(PATH)
    checks = viewer.page.locator(".lf-check")
    await checks.nth(0).tap()
    await checks.nth(2).tap()
    await chosen(viewer, 2)
    await viewer.shot("labelling-phone")
    await viewer.page.tap("lf-selection >> text=Failure")
    ids = [drawing.episode_id for drawing in fleet.episodes]
    await are(viewer, labels, {ids[0]: ("failure", None), ids[2]: ("failure", None)})
    assert await viewer.page.evaluate("document.documentElement.scrollWidth") <= 390


async def test_a_viewer_moves_but_changes_nothing(fleet, look, labels):
    viewer = await look(fleet.url, username="vic")
    await viewer.open(PATH)
    assert await viewer.page.locator(".lf-check").count() == 0
    assert not await viewer.page.is_visible("lf-selection")
    for key in ("j", "j", "Space", "f", "a", "s"):
        await viewer.page.keyboard.press(key)
    assert await viewer.page.get_attribute(AT, "data-episode") == fleet.episodes[1].episode_id
    await viewer.page.keyboard.press("Enter")
    await viewer.page.wait_for_url(f"**/episodes/{fleet.episodes[1].episode_id}")
    assert await labels() == {}
    answer = await viewer.page.request.patch(
        f"{fleet.url}/api/v1/episodes", data={"labels": [{"id": fleet.episodes[0].episode_id, "outcome": "failure"}]}
    )
    assert answer.status == 403


async def test_the_line_under_the_table_says_how_many_match(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open(PATH)
    said = await viewer.page.inner_text(".lf-pager span >> nth=0")
    assert re.match(rf"20 of {len(fleet.episodes)} episodes on this page", said)
