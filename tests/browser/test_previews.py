"""Previews on the dashboard: the video plays in step with the plots, the exact pictures show where it stands."""

import json
import subprocess
import sys
import time
from functools import partial

import drawn_episode
import pytest
from drawn_episode import Drawing
from sqlalchemy import text

from lefleet_server.dashboard.assets import BASE
from lefleet_server.deletion import holds, service

READY = "lf-player[data-state=paused]"
SQUARES = """([video, bits, size]) => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
    const pixels = canvas.getContext("2d");
    pixels.drawImage(video, 0, 0);
    let number = 0;
    for (let bit = 0; bit < bits; bit++) {
        if (pixels.getImageData((bit + 0.5) * size, size / 2, 1, 1).data[0] > 127) number += 1 << bit;
    }
    return number;
}"""


@pytest.fixture(scope="module")
def made(serve, tmp_path_factory, wait_for_previews):
    """A server whose one episode (300 ticks at 30 Hz, a picture every third) has its previews."""
    server = serve("previews")
    robot = server.enrol("robot-1")
    drawing = Drawing("robot-1", time.time_ns() - 60 * 10**9, ticks=300)
    robot.upload(drawn_episode.write(tmp_path_factory.mktemp("drawn"), drawing))
    robot.close()
    wait_for_previews(server, drawing.episode_id)
    return server, drawing


@pytest.fixture(scope="module")
def wait_for_previews():
    """Runs a worker until the episode has them."""

    def wait(server, episode_id):
        made = "SELECT count(*) FROM episode_previews WHERE episode_id = :id AND sha256 IS NOT NULL"
        asked = text(made).bindparams(id=episode_id)
        worker = subprocess.Popen([sys.executable, "-m", "lefleet_server", "worker", "--config", str(server.config)])
        try:
            deadline = time.monotonic() + 120
            while server.do(lambda session: session.scalar(asked)) < 6:
                assert worker.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        finally:
            worker.terminate()
            worker.wait(30)

    return wait


@pytest.fixture
async def viewer(made, look):
    server, drawing = made
    viewer = await look(server.url)
    viewer.fetched = []
    viewer.page.on("request", lambda request: viewer.fetched.append(request.url))
    await viewer.open(f"/episodes/{drawing.episode_id}")
    await viewer.page.wait_for_selector(READY)
    return viewer


async def seen(viewer) -> dict:
    """Of one screen frame, after the player's turn: the tick that the plots show, each video's time and number."""
    return await viewer.page.evaluate(
        f"""async () => {{
            await new Promise(requestAnimationFrame);
            const player = document.querySelector("lf-player");
            const number = {SQUARES};
            const videos = [...player.querySelectorAll("video")];
            return {{
                by: player.dataset.by, state: player.dataset.state, tick: Number(player.dataset.tick),
                times: videos.map((video) => video.currentTime),
                numbers: videos.map((video) => number([video, {drawn_episode.BITS}, {drawn_episode.SQUARE_PX}])),
            }};
        }}"""
    )


def most(values: list[float]) -> float:
    """What nine of ten are below: a busy machine's browser may be late now and then, and not for long."""
    return sorted(map(abs, values))[len(values) * 9 // 10]


async def test_the_video_plays_in_step_with_the_plots_and_fetches_no_pictures(viewer, made):
    _, drawing = made
    page = viewer.page
    before = sum("/frames/" in url for url in viewer.fetched)
    assert before <= 2 * 8, "beside a video only the pictures nearby are fetched"
    await page.keyboard.press("Space")
    await page.wait_for_selector("lf-player[data-by=video][data-state=playing]")
    looks = []
    while not looks or looks[-1]["tick"] < drawing.ticks - 30:
        looks.append(await seen(viewer))
        assert looks[-1]["state"] in {"playing", "buffering"}, json.dumps(looks[-1])
        await page.wait_for_timeout(150)
    await viewer.shot("episode-video")
    playing = [look for look in looks if look["state"] == "playing"]
    assert len({look["tick"] for look in playing}) > 5
    assert most([look["times"][1] - look["times"][0] for look in playing]) < 1.5 / drawing.fps, looks
    for numbers in zip(*(look["numbers"] for look in playing), strict=True):
        ahead = [n - 1 - look["tick"] // drawing.camera_every for n, look in zip(numbers, playing, strict=True)]
        assert most(ahead) <= 1, ahead
    await page.wait_for_selector(READY)
    assert await page.get_attribute("lf-player", "data-tick") == str(drawing.ticks - 1)
    assert await page.get_attribute("lf-player", "data-by") == "pictures"
    last = await viewer.shown_number("lf-player canvas[data-camera=front]")
    assert last == (drawing.ticks - 1) // drawing.camera_every + 1
    assert sum("/frames/" in url for url in viewer.fetched) < 2 * drawing.ticks // drawing.camera_every / 2


async def test_a_camera_that_is_behind_comes_back_without_a_jump(viewer, made):
    _, drawing = made
    page = viewer.page
    await page.keyboard.press("Space")
    await page.wait_for_selector("lf-player[data-by=video][data-state=playing]")
    await page.wait_for_function("document.querySelector('lf-player').dataset.tick >= 15")
    await page.evaluate(
        """() => {
            const [first, second] = document.querySelectorAll("lf-player video");
            window.jumps = -1; // the one that is made here
            second.addEventListener("seeking", () => (window.jumps += 1));
            second.currentTime = first.currentTime - 0.09;
        }"""
    )
    apart = await page.wait_for_function(
        """(period) => {
            const { state, by } = document.querySelector("lf-player").dataset;
            const [first, second] = document.querySelectorAll("lf-player video");
            if (window.jumps < 0 || second.seeking || state !== "playing" || by !== "video") return null;
            const apart = Math.abs(second.currentTime - first.currentTime);
            return apart < period ? { apart } : null;
        }""",
        arg=1 / drawing.fps,
        timeout=20_000,
    )
    assert await page.evaluate("window.jumps") == 0, await apart.json_value()


async def test_the_place_is_that_of_the_picture_on_the_screen(viewer):
    places = await viewer.page.evaluate(
        """async (base) => {
            const { placeOf, speedOf } = await import(`${base}/player/videos.js`);
            const pictures = [0, 0.1, 0.2, 0.3, 2];
            return {
                place: [[0.15, null], [0.15, 0.1], [0.25, 0.1], [0.08, 0.1], [1.5, 0.3], [1.5, 0.1], [2.1, 2]].map(
                    ([seconds, shown]) => placeOf(seconds, shown, pictures)),
                speed: [0, 0.01, 0.05, -0.05, 0.2, -0.2].map((behind) => speedOf(2, behind, 1 / 30)),
            };
        }""",
        BASE,
    )
    # Not told; in it; its next one is not shown yet; shown early; nothing new for long; a stale word; the last one.
    assert places["place"] == pytest.approx([0.15, 0.15, 0.2, 0.1, 1.5, 1.5, 2.1], abs=0.002)
    assert places["place"][2] < 0.2 and places["place"][3] > 0.1, "the ticks of the picture that is shown"
    assert places["speed"] == pytest.approx([2, 2, 2.2, 1.8, 2.4, 1.6])


async def test_an_episode_without_cameras_plays(made, look):
    server, drawing = made
    viewer = await look(server.url)

    async def blind(route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, json=await answer.json() | {"image_seq": {}})

    await viewer.page.route("**/signals", blind)
    await viewer.open(f"/episodes/{drawing.episode_id}")
    await viewer.page.wait_for_selector(READY)
    await viewer.page.keyboard.press("Space")
    await viewer.page.wait_for_function("document.querySelector('lf-player').dataset.tick >= 20")


async def test_where_it_is_stopped_the_exact_picture_is_shown_and_it_goes_on_from_where_it_is_sent(viewer, made):
    _, drawing = made
    page = viewer.page
    await page.eval_on_selector(
        "lf-player input[type=range]",
        "(slider) => { slider.value = 200; slider.dispatchEvent(new Event('input')); }",
    )
    await page.wait_for_selector("lf-player[data-tick='200'][data-state=paused]")
    assert await viewer.shown_number("lf-player canvas[data-camera=wrist]") == 1 + 200 // drawing.camera_every
    await page.keyboard.press("Space")
    await page.wait_for_selector("lf-player[data-by=video][data-state=playing]")
    await page.wait_for_function("document.querySelector('lf-player').dataset.tick >= 210")
    await page.keyboard.press("Space")
    await page.wait_for_selector("lf-player[data-by=pictures][data-state=paused]")
    tick = int(await page.get_attribute("lf-player", "data-tick"))
    assert 210 <= tick < 290
    for camera in ("front", "wrist"):
        shown = await viewer.shown_number(f"lf-player canvas[data-camera={camera}]")
        assert shown == 1 + tick // drawing.camera_every


async def test_a_video_that_cannot_be_had_leaves_the_pictures_playing(made, look):
    server, drawing = made
    viewer = await look(server.url)
    await viewer.page.route("**/video.mp4*", lambda route: route.fulfill(status=404, body=""))
    await viewer.open(f"/episodes/{drawing.episode_id}")
    await viewer.page.wait_for_selector(READY)
    await viewer.page.keyboard.press("Space")
    await viewer.page.wait_for_function("document.querySelector('lf-player').dataset.tick >= 20")
    assert await viewer.page.get_attribute("lf-player", "data-by") == "pictures"
    viewer.errors.clear()  # the browser tells of the 404 in its console


async def test_the_list_shows_the_small_pictures(made, look):
    server, drawing = made
    viewer = await look(server.url)
    fetched = []
    viewer.page.on("response", lambda answer: fetched.append((answer.url, answer.status)))
    await viewer.open("/episodes")
    row = viewer.page.locator(f"a.lf-row[data-episode='{drawing.episode_id}']")
    for number, kind in enumerate(("first", "last")):
        image = row.locator(".lf-thumbs img").nth(number)
        assert f"/previews/front/{kind}.jpg?v=" in await image.get_attribute("src")
    await viewer.page.wait_for_function(
        "[...document.querySelectorAll('.lf-thumbs img')].every((image) => image.naturalWidth === 320)"
    )
    assert {status for url, status in fetched if "/previews/" in url} == {200}
    assert not [url for url, _ in fetched if "/frames/" in url]
    await viewer.shot("episodes-thumbnails")


async def test_a_hold_is_shown_and_a_deleted_episode_says_who_deleted_it_and_why(made, look):
    server, drawing = made
    viewer = await look(server.url)
    server.do(partial(holds.place_on_robot, robot_id="robot-1", actor="user:ada", reason="A court asks"))
    await viewer.open(f"/episodes/{drawing.episode_id}")
    held = " ".join((await viewer.page.inner_text(".lf-hold")).split())
    assert "A court asks All episodes of robot-1, by ada" in held
    server.do(partial(holds.release_robot, robot_id="robot-1", actor="user:ada"))
    await viewer.open("/storage")  # its player asks for nothing more
    gone = partial(service.delete_episode, episode_id=drawing.episode_id, actor="user:ada", reason="a face", grace_s=0)
    server.do(gone)
    await viewer.open(f"/episodes/{drawing.episode_id}")
    text = " ".join((await viewer.page.inner_text(".lf-main")).split())
    assert "This episode was deleted" in text and "Deleted by ada" in text and "a face" in text
    await viewer.shot("episode-deleted")
