"""Previews: made by a worker in a confined process, in step with the ticks, served in parts, made again when lost."""

import dataclasses
import hashlib
import io

import av
import cv2
import numpy as np
import pytest
from sqlalchemy import text
from workers import Vanishing, run_until_empty

from lefleet_server import previews
from lefleet_server.accounts.models import Role
from lefleet_server.deletion import files
from lefleet_server.episodes import bounded, stores
from lefleet_server.episodes.fsck import Fault, Fsck
from lefleet_server.jobs import backlog, queue
from lefleet_server.previews import service
from lefleet_server.previews.service import Previewer

API = "/api/v1"
TICKS = 90
FPS = 30.0
PAUSE = slice(40, 70)
"""Ticks without a new picture."""


def picture(number: int) -> bytes:
    """Its brightness is its number."""
    return cv2.imencode(".jpg", np.full((120, 160, 3), 20 + 2 * number, np.uint8))[1].tobytes()


def brightness(frame) -> float:
    return float(np.asarray(frame.to_ndarray(format="gray"), float).mean())


def with_pictures(file, ticks: int = TICKS, camera: str = "front") -> None:
    """Pictures that stand still in PAUSE, and none at the first two ticks."""
    numbers = [40 if PAUSE.start <= tick < PAUSE.stop else tick for tick in range(ticks)]
    jpegs = [b"" if tick < 2 else picture(number) for tick, number in enumerate(numbers)]
    rows = np.zeros((ticks, max(map(len, jpegs))), np.uint8)
    for row, jpeg in zip(rows, jpegs, strict=True):
        row[: len(jpeg)] = np.frombuffer(jpeg, np.uint8)
    del file[f"observations/images/{camera}"], file[f"observations/image_bytes/{camera}"]
    file[f"observations/images/{camera}"] = rows
    file[f"observations/image_bytes/{camera}"] = np.array([len(jpeg) for jpeg in jpegs], "<u4")


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"deleted_file_grace_s": 0})


@pytest.fixture
async def episode(robot, episode_file):
    path = episode_file(with_pictures, ticks=TICKS)
    assert (await robot.upload(path)).status_code == 204
    return path.stem


async def listed(operator, episode: str) -> dict[tuple[str, str], dict]:
    items = (await operator.get(f"{API}/episodes/{episode}/previews")).raise_for_status().json()["items"]
    return {(item["camera"], item["kind"]): item for item in items}


async def rows(services, query: str) -> list:
    async with services.db.session() as session:
        return list((await session.execute(text(query))).all())


async def fsck(services, *, repair=False):
    check = Fsck(services.settings, services.db, services.blobs, repair=repair, deep=True, young_s=-60)
    return [finding async for finding in check.findings(lambda _: None)]


@pytest.mark.parametrize("store", ["local", "s3"])
async def test_each_camera_gets_a_video_in_step_with_the_ticks_and_two_thumbnails(
    services, settings, operator, episode, stored
):
    await run_until_empty(services, settings)
    made = await listed(operator, episode)
    assert set(made) == {(camera, kind) for camera in ("front", "wrist") for kind in previews.KINDS}
    video = (await operator.get(made["front", "video"]["url"])).raise_for_status()
    assert video.content.find(b"moov") < video.content.find(b"mdat"), "the index comes first"
    with av.open(io.BytesIO(video.content)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.profile, stream.codec_context.pix_fmt) == ("Constrained Baseline", "yuv420p")
        frames = list(container.decode(video=0))
    shown = {round(frame.time * FPS): brightness(frame) for frame in frames}
    assert sorted(shown) == [tick for tick in range(TICKS) if tick not in {1, *range(41, 70)}], "a pause is a pause"
    assert shown.pop(0) < 5, "black until the first picture"
    assert all(abs(value - (20 + 2 * tick)) < 4 for tick, value in shown.items()), shown
    keys = [frame.time for frame in frames if frame.key_frame]
    gaps = np.diff([*keys, frames[-1].time])
    for gap, start in zip(gaps, keys, strict=True):
        between = [frame.time for frame in frames if start < frame.time < start + gap]
        assert gap <= 1.05 or not between or max(between) - start <= 1.0, "a key frame at least each second"
    for kind, tick in (("first", 2), ("last", TICKS - 1)):
        answer = (await operator.get(made["front", kind]["url"])).raise_for_status()
        image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert image.shape == (120, 160)
        assert abs(float(image.mean()) - (20 + 2 * tick)) < 4
    assert len(stored("making")) == 0
    assert await fsck(services) == []
    assert await backlog.enqueue(services.db, [service.older()]) == 0
    assert await backlog.enqueue(services.db, [service.older(previews.VERSION + 1)]) == 1


async def test_a_video_is_sent_in_the_parts_that_are_asked_for(services, settings, operator, episode):
    await run_until_empty(services, settings)
    item = (await listed(operator, episode))["front", "video"]
    url, plain = item["url"], item["url"].partition("?")[0]
    whole = await operator.get(url)
    tag, size = whole.headers["etag"], len(whole.content)
    assert (whole.headers["content-type"], whole.headers["accept-ranges"]) == ("video/mp4", "bytes")
    assert hashlib.sha256(whole.content).hexdigest() == tag.strip('"')
    assert "immutable" in whole.headers["cache-control"]
    assert (await operator.get(plain)).headers["cache-control"] == "private, no-cache"
    for header, start, stop in (("bytes=0-", 0, size), ("bytes=5-9", 5, 10), ("bytes=-7", size - 7, size)):
        part = await operator.get(url, headers={"Range": header})
        assert (part.status_code, part.content) == (206, whole.content[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    wrong = await operator.get(url, headers={"Range": f"bytes={size}-"})
    assert (wrong.status_code, wrong.headers["content-range"]) == (416, f"bytes */{size}")
    assert (await operator.get(url, headers={"If-None-Match": tag})).status_code == 304
    for if_range, status in ((tag, 206), ('"other"', 200)):
        answer = await operator.get(url, headers={"Range": "bytes=0-3", "If-Range": if_range})
        assert answer.status_code == status
    assert (await operator.get(f"{API}/episodes/{episode}/previews/side/video.mp4")).status_code == 404


async def test_a_video_can_be_sent_by_a_proxy(services, settings, operator, app, episode):
    by_proxy = settings.model_copy(update={"downloads_by": "proxy"})
    app.state.services = dataclasses.replace(services, settings=by_proxy)
    await run_until_empty(services, settings)
    item = (await listed(operator, episode))["front", "video"]
    answer = await operator.get(item["url"], headers={"X-Sendfile-Type": "X-Accel-Redirect", "Range": "bytes=-7"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", "video/mp4")
    file = settings.blobs_dir / answer.headers["x-accel-redirect"].removeprefix("/internal/blobs/")
    assert file.stat().st_mode & 0o004, "another user may read it"
    assert file.read_bytes() == (await operator.get(item["url"])).content
    assert answer.headers["x-lefleet-range"] == f"bytes={file.stat().st_size - 7}-{file.stat().st_size - 1}"
    small = (await listed(operator, episode))["front", "first"]["url"]
    assert (await operator.get(small, headers={"X-Sendfile-Type": "X-Accel-Redirect"})).content.startswith(b"\xff\xd8")


async def test_a_camera_without_pictures_has_none_and_says_why_and_the_others_have_theirs(
    services, settings, operator, robot, episode_file
):
    def blind(file):
        file["observations/image_bytes/front"][:] = 0

    path = episode_file(blind)
    (await robot.upload(path)).raise_for_status()
    await run_until_empty(services, settings)
    made = await listed(operator, path.stem)
    assert made["front", "video"]["url"] is None
    assert "has no picture" in made["front", "video"]["reason"]
    assert made["wrist", "video"]["url"] is not None
    answer = await operator.get(f"{API}/episodes/{path.stem}/previews/front/video.mp4")
    assert (answer.status_code, "has no picture" in answer.json()["detail"]) == (404, True)
    assert await backlog.enqueue(services.db, [service.older()]) == 0, (
        "what cannot be made is not tried again by this version"
    )


async def test_a_preview_that_takes_too_long_is_a_failed_attempt_and_made_once_there_is_time(
    services, settings, operator, episode
):
    await run_until_empty(services, settings.model_copy(update={"job_attempts": 1}), timeout_s=0.001)
    assert await listed(operator, episode) == {}
    (dead,) = (await operator.get(f"{API}/jobs")).json()["items"]
    assert "LateError: could not be read within 0.001 s" in dead["reason"]
    (await operator.post(f"{API}/jobs/retry", json={})).raise_for_status()
    await run_until_empty(services, settings)
    assert (await listed(operator, episode))["front", "video"]["url"] is not None


async def test_a_file_that_the_host_cannot_read_is_a_failed_attempt_too(services, settings, operator, episode):
    previewer = Previewer(services.db, Vanishing(services.blobs.root), stores.making(settings), 60)
    async with services.db.transaction() as session:
        await queue.enqueue(session, previews.QUEUE, [episode], previews.VERSION, previews.PRIORITY)
        job = await queue.claim(session, "claim", "worker-1", [previews.QUEUE])
    with pytest.raises(bounded.EndedEarlyError, match="cannot be made: FileNotFoundError"):
        await previewer(job)
    assert await listed(operator, episode) == {}


async def test_a_quarantined_episode_has_no_previews(services, settings, operator, robot, episode_file):
    def spoil(file):
        file["observations/qpos"][3, 2] = np.nan

    path = episode_file(spoil)
    (await robot.upload(path)).raise_for_status()
    await run_until_empty(services, settings)
    assert await listed(operator, path.stem) == {}
    assert await backlog.enqueue(services.db, [service.older()]) == 0


async def test_a_lost_preview_is_no_alarm_and_is_made_again(services, settings, operator, episode):
    await run_until_empty(services, settings)
    before = await listed(operator, episode)
    lost = before["front", "video"]["url"].partition("v=")[2]
    await services.blobs.remove(lost)
    assert (await operator.get(before["front", "video"]["url"])).status_code == 404
    assert [(each.fault, each.remains) for each in await fsck(services)] == [(Fault.PREVIEW, False)]
    assert [(each.fault, each.episode_id) for each in await fsck(services, repair=True)] == [(Fault.PREVIEW, episode)]
    await run_until_empty(services, settings)
    after = await listed(operator, episode)
    assert after["front", "video"]["url"] == before["front", "video"]["url"], "the same pictures make the same file"
    assert await fsck(services) == []


async def test_a_preview_with_other_bytes_is_made_again(services, settings, operator, episode, stored):
    await run_until_empty(services, settings)
    sha256 = (await listed(operator, episode))["front", "first"]["url"].partition("v=")[2]
    services.blobs.path(sha256).write_bytes(b"x" * services.blobs.path(sha256).stat().st_size)
    assert [each.fault for each in await fsck(services, repair=True)] == [Fault.PREVIEW]
    assert len(stored("lost+found")) == 1
    await run_until_empty(services, settings)
    assert await fsck(services) == []


async def test_previews_of_an_older_version_give_way_and_their_files_go(services, settings, operator, episode, stored):
    await run_until_empty(services, settings)
    async with services.db.transaction() as session:
        old = "UPDATE episode_previews SET version = 0, sha256 = :sha WHERE camera = 'front' AND kind = 'video'"
        data = b"an older encoder made this"
        sha256 = hashlib.sha256(data).hexdigest()
        path = settings.making_dir / "old"
        path.write_bytes(data)
        await services.blobs.publish(path, sha256)
        await session.execute(text(old), {"sha": sha256})
    assert await backlog.enqueue(services.db, [service.older()]) == 0, "one of its previews is of this version"
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE episode_previews SET version = 0"))
    assert await backlog.enqueue(services.db, [service.older()]) == 1
    await run_until_empty(services, settings)
    assert {row.version for row in await rows(services, "SELECT version FROM episode_previews")} == {previews.VERSION}
    assert await files.remove_due(services.db, services.blobs) == 1
    assert await services.blobs.size(sha256) is None
    assert await fsck(services) == []


async def test_two_workers_and_the_same_pictures_share_a_file_until_the_last_goes(
    services, settings, operator, robot, episode_file, person, stored
):
    paths = [episode_file(with_pictures, ticks=TICKS, seed=number) for number in range(2)]
    for path in paths:
        (await robot.upload(path)).raise_for_status()
    await run_until_empty(services, settings, workers=2)
    first, second = [await listed(operator, path.stem) for path in paths]
    assert first["front", "video"]["url"].partition("v=")[2] == second["front", "video"]["url"].partition("v=")[2]
    admin = await person(Role.ADMIN)
    for number, path in enumerate(paths):
        (await admin.delete(f"{API}/episodes/{path.stem}", params={"reason": "why"})).raise_for_status()
        async with services.db.transaction() as session:
            await session.execute(text("UPDATE blob_removals SET due_at = now()"))
        await files.remove_due(services.db, services.blobs)
        assert await fsck(services) == []
        answer = await operator.get(second["front", "video"]["url"])
        assert answer.status_code == (200 if number == 0 else 410)
    assert stored("blobs") == []
    await admin.aclose()


async def test_a_file_that_went_before_its_job_ended_is_made_again(services, settings, operator, episode):
    """A worker that hangs for an hour between the file and its row."""
    await run_until_empty(services, settings)
    async with services.db.transaction() as session:
        await session.execute(text("DELETE FROM episode_previews"))
    assert await backlog.enqueue(services.db, [service.older()]) == 1
    publish, turns = services.blobs.publish, []

    async def slow(path, sha256):
        await publish(path, sha256)
        if not turns:
            turns.append(sha256)
            async with services.db.transaction() as session:
                await session.execute(text("UPDATE blob_removals SET due_at = now()"))
            assert await files.remove_due(services.db, services.blobs) > 0

    services.blobs.publish = slow
    try:
        await run_until_empty(services, settings)
    finally:
        del services.blobs.publish
    assert turns
    assert await fsck(services) == []
    assert (await operator.get((await listed(operator, episode))["front", "video"]["url"])).status_code == 200


async def test_what_a_worker_left_on_its_way_is_watched_and_goes(services, settings, episode, stored):
    """Killed between the file and its row: fsck calls it nothing wrong, and within the hour it is gone."""
    async with services.db.transaction() as session:
        await queue.enqueue(session, previews.QUEUE, [episode], previews.VERSION)
        job = await queue.claim(session, "a", "worker-a", [previews.QUEUE])
    await Previewer(services.db, services.blobs, stores.making(settings), 60)(job)  # and never stored
    left = len(stored("blobs"))
    assert left > 1
    assert await fsck(services) == []
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE blob_removals SET due_at = now()"))
    assert await files.remove_due(services.db, services.blobs) == left - 1
    assert len(stored("blobs")) == 1
