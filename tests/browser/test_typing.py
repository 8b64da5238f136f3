"""What a person types stays theirs while the page below their fingers changes."""

from test_robot import JOINTS, tell

NOTE = "[aria-label=Note]"
ABOUT = "[aria-label=About]"


async def label(viewer, episode_id):
    found = await (await viewer.page.request.get(f"{viewer.url}/api/v1/episodes/{episode_id}")).json()
    return found["label_outcome"], found["label_note"]


async def has_label(viewer, episode_id, expected):
    for _ in range(200):
        if await label(viewer, episode_id) == expected:
            return
        await viewer.page.wait_for_timeout(50)
    assert await label(viewer, episode_id) == expected


async def test_a_robots_notes_outlive_the_refresh_of_its_page(fleet, look):
    tell(fleet)
    viewer = await look(fleet.url)
    await viewer.open("/robots/robot-2")
    await viewer.page.click(".lf-notes >> text=Edit")
    area = viewer.page.locator(".lf-notes textarea")
    before = await area.input_value()
    await area.press_sequentially("It squeaks")
    for number in (11.5, 22.5):
        fleet.robots["robot-2"].heartbeat(joints=JOINTS | {"values": [number] * 6})
        await viewer.page.wait_for_selector(f"[data-joint=gripper] >> text={number}")
    assert await area.input_value() == before + "It squeaks"
    await area.press_sequentially(" a lot")
    await viewer.page.click(".lf-notes >> text=Cancel")
    await viewer.page.click(".lf-notes >> text=Edit")
    assert await area.input_value() == before, "what was cancelled is gone"
    viewer.errors[:] = [error for error in viewer.errors if "404" not in error]  # the picture that is not there


async def test_a_note_outlives_another_change_of_the_episodes_page(fleet, look, labels):
    episode = fleet.episodes[7].episode_id
    viewer = await look(fleet.url)
    await viewer.open(f"/episodes/{episode}")
    await viewer.page.locator(NOTE).press_sequentially("The block sli")
    await viewer.page.eval_on_selector("[data-outcome=failure]", "(button) => button.click()")  # the focus stays
    await viewer.page.wait_for_selector("[data-outcome=failure][aria-pressed=true]")
    assert await viewer.page.input_value(NOTE) == "The block sli"
    await viewer.page.locator(NOTE).press_sequentially("pped")
    await viewer.page.press(NOTE, "Enter")
    await has_label(viewer, episode, ("failure", "The block slipped"))
    await viewer.page.click("text=Undo")
    await has_label(viewer, episode, (None, "The block slipped"))
    assert await viewer.page.input_value(NOTE) == "The block slipped"


async def test_a_press_on_an_outcome_while_typing_keeps_note_and_outcome(fleet, look, labels):
    viewer = await look(fleet.url)
    for drawing in fleet.episodes[8:12]:
        await viewer.open(f"/episodes/{drawing.episode_id}")
        await viewer.page.locator(NOTE).press_sequentially("Too dark")
        await viewer.page.click("[data-outcome=unknown]")  # which ends the typing: two changes at once
        await has_label(viewer, drawing.episode_id, ("unknown", "Too dark"))
        await viewer.page.wait_for_timeout(300)
        assert await label(viewer, drawing.episode_id) == ("unknown", "Too dark")


async def test_what_the_audit_log_is_asked_about_stays_while_its_lines_change(fleet, look):
    viewer = await look(fleet.url, "root")
    await viewer.open("/audit")
    await viewer.page.wait_for_selector("[data-entry]")
    await viewer.page.locator(ABOUT).press_sequentially("robot:robo")
    await viewer.page.eval_on_selector(
        "[aria-label=What]",
        "(select) => { select.value = 'robot'; select.dispatchEvent(new Event('change')); }",  # the focus stays
    )
    await viewer.page.wait_for_url("**action=robot**")
    await viewer.page.wait_for_selector("[data-action^='robot.']")
    assert await viewer.page.input_value(ABOUT) == "robot:robo"
    await viewer.page.locator(ABOUT).press_sequentially("t-2")
    await viewer.page.press(ABOUT, "Enter")
    await viewer.page.wait_for_url("**subject=robot%3Arobot-2**")
    assert await viewer.page.input_value(ABOUT) == "robot:robot-2"
