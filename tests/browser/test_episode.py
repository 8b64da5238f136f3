"""One episode: pictures and plots in step, scrubbing, labels, and the way to its neighbours."""

import asyncio

import httpx
import pytest

READY = "lf-player[data-state=paused]"
CANVASES = "lf-player canvas[data-camera]"


@pytest.fixture
def episode(fleet):
    """The longest: 120 ticks, a new picture every third."""
    return fleet.episodes[0]


@pytest.fixture
async def viewer(fleet, look, episode):
    viewer = await look(fleet.url)
    await viewer.open(f"/episodes/{episode.episode_id}")
    await viewer.page.wait_for_selector(READY)
    return viewer


async def tick(viewer) -> int:
    return int(await viewer.page.get_attribute("lf-player", "data-tick"))


async def at_tick(viewer, wanted: int) -> None:
    await viewer.page.wait_for_selector(f"lf-player[data-tick='{wanted}']")


async def numbers(viewer) -> list[int]:
    return [await viewer.shown_number(f"lf-player canvas[data-camera={camera}]") for camera in ("front", "wrist")]


async def test_it_plays_to_its_end_in_its_own_time(viewer, episode):
    began = asyncio.get_running_loop().time()
    await viewer.page.keyboard.press("Space")
    seen = []
    while not seen or seen[-1][0] < episode.ticks - 1:
        assert asyncio.get_running_loop().time() - began < 60
        shown = await viewer.page.eval_on_selector_all(
            CANVASES, "canvases => canvases.map((canvas) => Number(canvas.dataset.tick))"
        )
        assert shown[0] == shown[1], "the cameras are out of step"
        seen.append(shown)
        await asyncio.sleep(0.05)
    ticks = [front for front, _ in seen]
    assert ticks == sorted(ticks) and len(set(ticks)) > 5
    assert asyncio.get_running_loop().time() - began >= (episode.ticks - 1) / episode.fps - 0.1
    await viewer.page.wait_for_selector(READY)
    assert await numbers(viewer) == [episode.ticks // 3] * 2


async def test_each_tick_shows_the_picture_that_the_robot_saw(viewer):
    for wanted in (0, 2, 3, 7, 60, 119, 30):
        await viewer.page.eval_on_selector(
            "lf-player input[type=range]",
            "(slider, tick) => { slider.value = tick; slider.dispatchEvent(new Event('input')); }",
            wanted,
        )
        await at_tick(viewer, wanted)
        assert await numbers(viewer) == [1 + wanted // 3] * 2


async def test_a_picture_is_fetched_once_however_many_ticks_saw_it(fleet, look, episode):
    viewer = await look(fleet.url)
    fetched = []
    viewer.page.on("request", lambda request: fetched.append(request.url) if "/frames/" in request.url else None)
    await viewer.open(f"/episodes/{episode.episode_id}")
    await viewer.page.wait_for_selector(READY)
    await viewer.page.wait_for_load_state("networkidle")
    assert len(fetched) == len(set(fetched)) == 2 * episode.ticks // 3


async def test_the_keyboard_steps_jumps_and_changes_the_speed(viewer):
    keys = viewer.page.keyboard
    for key, wanted in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("Shift+ArrowRight", 31)):
        await keys.press(key)
        await at_tick(viewer, wanted)
    await keys.press("End")
    await at_tick(viewer, 119)
    await keys.press("Home")
    await at_tick(viewer, 0)
    await keys.press("]")
    assert await viewer.page.input_value("[aria-label=Speed]") == "2"


async def test_a_click_on_a_plot_goes_there(viewer, episode):
    plot = await viewer.page.locator(".lf-plots-head").nth(1).bounding_box()
    await viewer.page.mouse.click(plot["x"] + plot["width"] * 0.75, plot["y"] + 60)
    wanted = 0.75 * (episode.ticks - 1)
    await viewer.page.wait_for_function("document.querySelector('lf-player').dataset.tick > 50")
    assert abs(await tick(viewer) - wanted) <= 1
    await viewer.shot("episode-scrubbed")
    await viewer.page.mouse.move(plot["x"] + plot["width"] * 0.75, plot["y"] + 60)
    await viewer.page.mouse.down()
    await viewer.page.mouse.move(plot["x"] + plot["width"] * 0.25, plot["y"] + 60, steps=5)
    await viewer.page.mouse.up()
    await viewer.page.wait_for_function("document.querySelector('lf-player').dataset.tick < 40")
    assert abs(await tick(viewer) - 0.25 * (episode.ticks - 1)) <= 1


async def test_the_values_beside_the_plots_are_those_of_the_tick(viewer, fleet, episode):
    cookies = {cookie["name"]: cookie["value"] for cookie in await viewer.page.context.cookies()}
    async with httpx.AsyncClient(base_url=fleet.url, cookies=cookies) as client:
        signals = (await client.get(f"/api/v1/episodes/{episode.episode_id}/signals")).json()
    await viewer.page.keyboard.press("Shift+ArrowRight")
    await at_tick(viewer, 30)
    for joint, head in enumerate(await viewer.page.locator(".lf-plots-head em").all()):
        assert await head.inner_text() == f"{signals['qpos'][joint][30]:.1f}"


async def test_a_label_is_saved_and_says_who_gave_it(viewer, fleet, look, episode, labels):
    page = viewer.page
    await page.click("button[data-outcome=failure]")
    await page.wait_for_selector(".lf-title .lf-chip:has-text('Failure')")
    assert "Labelled by ada" in await page.inner_text(".lf-label-foot")
    await page.fill("[aria-label=Note]", "The block slipped")
    await page.press("[aria-label=Note]", "Enter")
    await page.keyboard.press("Tab")
    await asyncio.sleep(0.5)
    await page.reload()
    await page.wait_for_selector("button[data-outcome=failure][aria-pressed=true]")
    assert await page.input_value("[aria-label=Note]") == "The block slipped"
    other = await look(fleet.url, username="vic")
    await other.open("/episodes?outcome=failure")
    assert await other.page.is_visible(f"a.lf-row[data-episode='{episode.episode_id}']")
    await page.click("text=Undo")
    await page.wait_for_selector(".lf-title .lf-chip:has-text('Success')")


async def test_a_viewer_may_look_but_not_label(fleet, look, episode):
    viewer = await look(fleet.url, username="vic")
    await viewer.open(f"/episodes/{episode.episode_id}")
    assert await viewer.page.is_disabled("button[data-outcome=failure]")
    assert await viewer.page.is_disabled("[aria-label=Note]")


async def test_neighbours_keep_to_the_filters(fleet, look):
    mine = [drawing.episode_id for drawing in fleet.episodes if drawing.robot_id == "robot-2"]
    viewer = await look(fleet.url)
    await viewer.open("/episodes?robot=robot-2")
    await viewer.page.click(f"a.lf-row[data-episode='{mine[0]}']")
    await viewer.page.wait_for_url(f"**/episodes/{mine[0]}?robot=robot-2")
    await viewer.page.wait_for_selector(READY)
    await viewer.page.keyboard.press("j")
    await viewer.page.wait_for_url(f"**/episodes/{mine[1]}?robot=robot-2")
    await viewer.page.wait_for_selector(READY)
    await viewer.page.keyboard.press("k")
    await viewer.page.wait_for_url(f"**/episodes/{mine[0]}?robot=robot-2")
    await viewer.page.wait_for_selector(READY)
    await viewer.page.click("text=Episodes >> nth=-1")


async def test_provenance_and_download(viewer, fleet, episode):
    text = await viewer.page.inner_text(".lf-provenance")
    for part in (episode.policy_repo, "ACT", "30.0 Hz asked", "0.1.0", "front-480x360-10", "goal reached"):
        assert part in text
    async with viewer.page.expect_download() as download:
        await viewer.page.click("text=HDF5")
    saved = await (await download.value).path()
    assert saved.read_bytes()[:8] == b"\x89HDF\r\n\x1a\n"


async def test_an_episode_that_is_not_there_says_so(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open("/episodes/0123456789abcdef0123456789abcdef")
    assert "There is no such episode" in await viewer.page.inner_text(".lf-empty")
