"""The arm in three dimensions at the player's tick, and what happened on its time line."""

import asyncio
import time
from types import SimpleNamespace

import drawn_episode
import h5py
import mujoco
import numpy as np
import pytest
from drawn_episode import EVENTS, Drawing
from test_phone import PHONE

from lefleet_agent.robots.so101_model import scene_file
from lefleet_server.dashboard import so101_pose
from lefleet_server.dashboard.assets import BASE

PLAYING = "lf-player[data-state=playing]"
PAUSED = "lf-player[data-state=paused]"
DRAWN = ".lf-replay[data-state=ready][data-draws]"
JAW = list(so101_pose.MOVING_JAW_TIP)


@pytest.fixture(scope="module")
def made(serve, tmp_path_factory):
    """A server with an eventful episode of an SO-101, and one each of arms that are none."""
    server = serve("replay")
    robot, folder = server.enrol("robot-1"), tmp_path_factory.mktemp("replay")

    def send(minutes, **changes):
        drawing = Drawing("robot-1", time.time_ns() - minutes * 60 * 10**9, **changes)
        path = drawn_episode.write(folder, drawing)
        robot.upload(path)
        return SimpleNamespace(path=path, drawing=drawing, page=f"/episodes/{drawing.episode_id}")

    yield SimpleNamespace(
        url=server.url,
        so101=send(1, eventful=True),
        so100=send(2, ticks=12, robot_type="so100_follower"),
        strange=send(3, ticks=12, joint_names=("waist", "shoulder", "elbow", "wrist", "roll", "gripper")),
    )
    robot.close()


@pytest.fixture
async def viewer(made, look):
    viewer = await look(made.url)
    await viewer.open(made.so101.page)
    await viewer.page.wait_for_selector(PAUSED)
    await viewer.page.wait_for_selector(DRAWN)
    return viewer


@pytest.fixture(scope="module")
def model():
    """Where MuJoCo has the tip of the moving jaw, metres: `model(angles)` with radians by joint."""
    loaded = mujoco.MjModel.from_xml_path(str(scene_file()))
    data = mujoco.MjData(loaded)

    def tip(angles):
        for name, angle in angles.items():
            data.joint(name).qpos[0] = angle
        mujoco.mj_kinematics(loaded, data)
        return data.geom("moving_jaw_pad").xpos.copy()

    return tip


async def go(viewer, tick) -> None:
    await viewer.page.evaluate("(tick) => document.querySelector('lf-player').clock.seekTick(tick)", tick)
    await viewer.page.wait_for_selector(f".lf-replay[data-tick='{tick}']")


async def draws(viewer) -> int:
    return int(await viewer.page.get_attribute(".lf-replay", "data-draws"))


async def test_the_browsers_kinematics_are_mujocos(viewer, model):
    rng = np.random.default_rng(8)
    postures = [{j.name: float(rng.uniform(-1.6, 1.6)) for j in so101_pose.JOINTS} for _ in range(50)]
    tips = await viewer.page.evaluate(
        """async ([base, arm, postures, point]) => {
            const { place } = await import(`${base}/player/pose.js`);
            return postures.map((angles) => place(arm, angles, "gripper", point));
        }""",
        [BASE, so101_pose.described(), postures, JAW],
    )
    for angles, tip in zip(postures, tips, strict=True):
        assert tip == pytest.approx(model(angles), abs=1e-4)


async def test_both_arms_stand_where_the_files_joints_put_them(viewer, model, made):
    await viewer.page.click("[data-ghost=requested]")
    with h5py.File(made.so101.path) as file:
        columns = {"measured": file["observations/qpos"][:], "ghost": file["action_requested"][:]}
    for tick in (0, 31, 88, 119, 50):
        await go(viewer, tick)
        for figure, values in columns.items():
            angles = so101_pose.radians(
                list(drawn_episode.JOINTS), list(drawn_episode.UNITS), [float(value) for value in values[tick]]
            )
            tip = await viewer.page.evaluate(
                """async ([figure, point]) => {
                    const { THREE } = await import("nicegui-scene");
                    const frame = document.querySelector("lf-player").replay.stage[figure].frames.get("gripper");
                    return frame.localToWorld(new THREE.Vector3(...point)).toArray();
                }""",
                [figure, JAW],
            )
            assert tip == pytest.approx(model(angles), abs=1e-4), f"{figure} at tick {tick}"


async def test_it_follows_while_playing_and_asks_the_server_nothing(viewer):
    page = viewer.page
    await page.wait_for_load_state("networkidle")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    before = await draws(viewer)
    await page.keyboard.press("]")
    await page.keyboard.press("Space")
    await page.wait_for_selector(PLAYING)
    seen = set()
    while await page.get_attribute("lf-player", "data-tick") != "119":
        apart = await page.evaluate(
            """() => {
                const player = document.querySelector("lf-player");
                return [player.clock.tick, Number(player.replay.element.dataset.tick)];
            }"""
        )
        assert apart[0] == apart[1]
        seen.add(apart[1])
        await asyncio.sleep(0.05)
    assert len(seen) > 3 and await draws(viewer) >= before + len(seen) - 1
    assert asked == []


async def test_it_draws_nothing_while_paused_or_out_of_sight(made, look):
    viewer = await look(made.url, viewport={"width": 900, "height": 420})
    page = viewer.page
    await viewer.open(made.so101.page)
    await page.wait_for_selector(PAUSED)
    assert await page.get_attribute(".lf-replay", "data-state") == "waiting", "three.js waits until it is looked at"
    await page.eval_on_selector(".lf-replay", "(element) => element.scrollIntoView()")
    await page.wait_for_selector(DRAWN)
    await page.wait_for_timeout(500)
    before = await draws(viewer)
    await page.wait_for_timeout(700)
    assert await draws(viewer) == before
    await page.evaluate("window.scrollTo(0, 0)")
    await page.wait_for_function("!document.querySelector('lf-player').replay.inSight")
    await page.keyboard.press("End")
    await page.wait_for_selector("lf-player[data-tick='119']")
    assert await draws(viewer) == before
    await page.eval_on_selector(".lf-replay", "(element) => element.scrollIntoView()")
    await page.wait_for_selector(".lf-replay[data-tick='119']")
    assert await draws(viewer) > before


async def test_the_ghost_is_chosen_and_the_choice_is_kept(viewer):
    page, canvas = viewer.page, viewer.page.locator(".lf-replay canvas")
    await go(viewer, 88)
    pictures = {}
    for name in ("sent", "requested", "none"):
        await page.click(f"[data-ghost={name}]")
        await page.wait_for_function("!document.querySelector('lf-player').replay.dirty")
        pictures[name] = await canvas.screenshot()
    assert len(set(pictures.values())) == 3
    await page.keyboard.press("g")
    await page.wait_for_selector("[data-ghost=sent][aria-pressed=true]")
    await page.keyboard.press("g")
    await page.reload()
    await page.wait_for_selector("[data-ghost=requested][aria-pressed=true]")


async def test_the_whole_arm_is_in_view_throughout(viewer):
    for tick in range(0, 120, 17):
        await go(viewer, tick)
        places = await viewer.page.evaluate(
            """async () => {
                const { THREE } = await import("nicegui-scene");
                const { stage } = document.querySelector("lf-player").replay;
                return [...stage.measured.frames.values()].map((frame) =>
                    frame.getWorldPosition(new THREE.Vector3()).project(stage.camera).toArray());
            }"""
        )
        assert np.abs(places).max() < 1, f"at tick {tick}"


async def test_a_drag_turns_the_view_and_a_double_click_turns_it_back(viewer):
    page, canvas = viewer.page, viewer.page.locator(".lf-replay canvas")
    at = "document.querySelector('lf-player').replay.stage.camera.position.toArray()"
    first, before = await page.evaluate(at), await draws(viewer)
    box = await canvas.bounding_box()
    await page.mouse.move(box["x"] + 100, box["y"] + 100)
    await page.mouse.down()
    await page.mouse.move(box["x"] + 160, box["y"] + 120, steps=4)
    await page.mouse.up()
    assert await page.evaluate(at) != pytest.approx(first)
    await page.wait_for_function(f"Number(document.querySelector('.lf-replay').dataset.draws) > {before}")
    await canvas.dblclick()
    assert await page.evaluate(at) == pytest.approx(first)


@pytest.mark.parametrize(("which", "says"), [("so100", "so100_follower"), ("strange", "no joint shoulder_pan")])
async def test_another_arm_is_not_drawn_and_the_page_says_why(made, look, which, says):
    viewer = await look(made.url)
    await viewer.open(getattr(made, which).page)
    await viewer.page.wait_for_selector(PAUSED)
    assert says in await viewer.page.inner_text(".lf-replay[data-state=unfit]")
    assert await viewer.page.locator(".lf-replay canvas").count() == 0


@pytest.fixture
async def without_webgl(browser):
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-3d-apis"]
    started = await browser.browser_type.launch(executable_path="/usr/bin/chromium", args=flags)
    yield started
    await started.close()


async def test_without_webgl_the_page_says_so_and_plays(without_webgl, made, look):
    viewer = await look(made.url, on=without_webgl)
    await viewer.open(made.so101.page)
    await viewer.page.wait_for_selector(PAUSED)
    await viewer.page.wait_for_selector(".lf-replay[data-state=missing]")
    assert "no WebGL" in await viewer.page.inner_text(".lf-replay")
    await viewer.page.keyboard.press("Space")
    await viewer.page.wait_for_function("document.querySelector('lf-player').dataset.tick > 5")


async def test_a_drawing_that_the_browser_took_away_comes_back(viewer):
    page = viewer.page
    await page.evaluate("document.querySelector('lf-player').replay.stage.renderer.forceContextLoss()")
    await page.wait_for_selector(".lf-replay[data-state=lost] >> text=took its 3D drawing away")
    await go_blind(page, 70)
    await page.evaluate("document.querySelector('lf-player').replay.stage.renderer.forceContextRestore()")
    await page.wait_for_selector(".lf-replay[data-state=ready][data-tick='70']")


async def go_blind(page, tick) -> None:
    await page.evaluate("(tick) => document.querySelector('lf-player').clock.seekTick(tick)", tick)
    await page.wait_for_selector(f"lf-player[data-tick='{tick}']")


async def test_events_are_found_in_the_file_and_keys_go_from_one_to_the_next(viewer):
    page = viewer.page
    events = await page.evaluate("document.querySelector('lf-player').timeline.events")
    # Both cameras stand still at once: two events of one kind.
    assert sorted({(e["kind"], e["first"], e["last"]) for e in events}) == sorted(EVENTS)
    for kind, first, _ in EVENTS:
        await page.keyboard.press(".")
        await page.wait_for_selector(f"lf-player[data-tick='{first}']")
        await page.wait_for_selector(f".lf-event-chip.is-now[data-kind={kind}]")
    await page.keyboard.press(",")
    await page.wait_for_selector("lf-player[data-tick='80']")
    assert "Not sent as requested: elbow flex · 0:02.67 to 0:03.17" in await page.inner_text(".lf-events-now")
    await page.click(".lf-event-chip[data-kind=dropped]")
    await page.wait_for_selector("lf-player[data-tick='100']")
    assert "5 ticks missing" in await page.inner_text(".lf-events-now")
    await page.click(".lf-lane[data-kind=person] i")
    await page.wait_for_selector("lf-player[data-tick='30']")


async def test_what_was_requested_stands_beside_what_was_sent_where_they_differ(viewer, made):
    with h5py.File(made.so101.path) as file:
        requested = float(file["action_requested"][88, 2])
    told = viewer.page.locator(".lf-plots-head s")
    await go(viewer, 88)
    assert [text.strip() for text in await told.all_inner_texts()] == ["", "", f"{requested:.1f}", "", "", ""]
    await go(viewer, 70)
    assert set(await told.all_inner_texts()) == {""}


@pytest.mark.parametrize("width", [320, 390, 480, 700, 820, 1024, 1280, 1440, 1920])
async def test_every_plot_has_its_joints_whole_name_beside_its_values(made, look, width):
    viewer = await look(made.url, viewport={"width": width, "height": 900})
    await viewer.open(made.so101.page)
    await viewer.page.wait_for_selector(PAUSED)
    for tick in (0, 88):  # at the second one something else was requested than was sent
        await viewer.page.evaluate("(tick) => document.querySelector('lf-player').clock.seekTick(tick)", tick)
        await viewer.page.wait_for_selector(f"lf-player[data-tick='{tick}']")
        cut = await viewer.page.eval_on_selector_all(
            ".lf-plots-head, .lf-plots-head b",
            "(all) => all.filter((e) => e.scrollWidth > e.clientWidth || !e.clientWidth).map((e) => e.textContent)",
        )
        assert cut == [], f"at tick {tick}"


async def test_the_list_of_keys_has_the_players(viewer):
    await viewer.page.click("[data-show-keys]")
    listed = await viewer.page.inner_text("dialog .lf-keys")
    for words in ("Play or pause", "One tick back or on", "Slower or faster", "To the event before", "Older episode"):
        assert words in listed
    await viewer.page.keyboard.press("ArrowRight")
    assert await viewer.page.get_attribute("lf-player", "data-tick") == "0", "the list is in front of the player"
    await viewer.shot("episode-keys")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
async def test_how_it_looks(made, look, theme, device):
    viewer = await look(made.url, **(PHONE if device == "phone" else {}))
    page = viewer.page
    await page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": made.url}])
    await viewer.open(made.so101.page)
    await page.wait_for_selector(PAUSED)
    await page.eval_on_selector(".lf-replay", "(element) => element.scrollIntoView({ block: 'center' })")
    await page.wait_for_selector(DRAWN)
    await page.click("[data-ghost=requested]")
    await go(viewer, 88)
    assert await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    await page.screenshot(path=f"tests/output/{device}-replay-{theme}.png", full_page=True)
