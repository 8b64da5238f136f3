"""`lefleet-server fsck`: rows and files, both ways, on every store."""

import asyncio
import hashlib
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, text, update

from lefleet_server.accounts.models import Role
from lefleet_server.db import utc_now
from lefleet_server.deletion import files
from lefleet_server.episodes.fsck import FOLDERS, Fault, Fsck
from lefleet_server.episodes.models import Episode
from lefleet_server.jobs.models import Job
from lefleet_server.storage import folder_bounds, key

pytestmark = pytest.mark.parametrize("store", ["local", "s3", "azure"])


@pytest.fixture
def fsck(services):
    async def run(*, repair: bool = False, deep: bool = False, young_s: float = -60):
        check = Fsck(services.settings, services.db, services.blobs, repair=repair, deep=deep, young_s=young_s)
        return [finding async for finding in check.findings(lambda _: None)]

    return run


@pytest.fixture
async def sent(robot, episode_file):
    """An episode that is stored: its file as sent."""
    path = episode_file()
    assert (await robot.upload(path)).status_code == 204
    return path


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def missing(robot, path) -> bool:
    answer = await robot.http.post("/api/v1/robot/receipts/missing", json={"sha256": [digest(path)]})
    return answer.json()["sha256"] == [digest(path)]


async def give_up(services) -> None:
    """The analysis: there was no file to look at."""
    async with services.db.transaction() as session:
        await session.execute(update(Job).values(state="dead"))


async def waiting(services) -> list[str]:
    async with services.db.session() as session:
        return list(await session.scalars(select(Job.state)))


async def test_a_whole_store_is_clean(fsck, sent):
    assert await fsck(deep=True) == []


async def test_an_episode_whose_file_is_lost_is_asked_of_its_robot_again(fsck, sent, robot, services, stored, operator):
    stored("blobs")[0].unlink()
    assert [each.fault for each in await fsck()] == [Fault.MISSING]
    assert not await missing(robot, sent), "without --repair nothing changes"
    assert [(each.fault, each.remains) for each in await fsck(repair=True)] == [(Fault.MISSING, True)]
    assert await missing(robot, sent)
    assert (await operator.get(f"/api/v1/episodes/{sent.stem}/file")).status_code == 404
    assert (await operator.get(f"/api/v1/episodes/{sent.stem}/signals")).status_code == 404
    assert (await operator.get(f"/api/v1/episodes/{sent.stem}/frames/front/0.jpg")).status_code == 404
    await give_up(services)
    assert (await robot.upload(sent)).status_code == 204
    assert not await missing(robot, sent)
    assert await waiting(services) == ["queued"]
    assert await fsck(deep=True) == []


async def test_a_file_that_is_cut_goes_to_lost_and_found(fsck, sent, robot, services, stored, tmp_path):
    (tmp_path / "cut").write_bytes(b"cut")
    await services.blobs.publish(tmp_path / "cut", digest(sent))
    assert [each.fault for each in await fsck(repair=True)] == [Fault.WRONG_SIZE]
    assert len(stored("lost+found")) == 1
    assert await missing(robot, sent)


async def test_only_deep_reads_the_bytes(fsck, sent, stored):
    blob = stored("blobs")[0]
    blob.write_bytes(bytes(len(blob.read_bytes())))
    assert await fsck() == []
    assert [each.fault for each in await fsck(deep=True)] == [Fault.WRONG_BYTES]


async def test_a_file_without_a_row_becomes_an_episode_again(fsck, sent, services, robot):
    async with services.db.transaction() as session:
        await session.execute(delete(Episode))
    assert await fsck(young_s=3600) == [], "a young file may be an upload that is being finished"
    assert [(each.fault, each.remains) for each in await fsck()] == [(Fault.ORPHAN, True)]
    assert [(each.fault, each.remains) for each in await fsck(repair=True)] == [(Fault.ORPHAN, False)]
    async with services.db.session() as session:
        assert list(await session.scalars(select(Episode.id))) == [sent.stem]
        assert list((await session.execute(select(Job.queue, Job.episode_id))).all()) == [("analysis", sent.stem)]
    assert await fsck(deep=True) == []


async def test_a_file_that_can_be_no_episode_goes_to_lost_and_found(
    fsck, services, robot, episode_file, stored, tmp_path
):
    stranger = episode_file(robot_id="nobody")
    no_episode = tmp_path / "no-episode"
    no_episode.write_bytes(uuid.uuid4().bytes)
    for path in (stranger, no_episode):
        await services.blobs.publish(path, digest(path))
    found = await fsck(repair=True)
    assert {each.fault for each in found} == {Fault.ORPHAN}
    assert not any(each.remains for each in found)
    assert any("nobody" in each.done for each in found)
    assert (len(stored("blobs")), len(stored("lost+found"))) == (0, 2)
    assert await fsck() == []


async def test_a_file_that_is_being_uploaded_is_no_orphan(fsck, services, robot, episode_file, tmp_path):
    path = episode_file()
    data = path.read_bytes()
    await robot.announce(data, path.stem)
    sha256 = digest(path)
    await services.blobs.publish(path, sha256)
    assert await fsck(repair=True) == []
    assert await services.blobs.size(sha256) == len(data)


async def test_a_file_that_came_back_is_told_to_its_episode(fsck, sent, robot, services, stored, tmp_path):
    stored("blobs")[0].unlink()
    await fsck(repair=True)
    copy = tmp_path / "copy"
    copy.write_bytes(sent.read_bytes())
    await services.blobs.publish(copy, digest(sent))
    await give_up(services)
    assert [each.fault for each in await fsck(repair=True)] == [Fault.FOUND_AGAIN]
    assert not await missing(robot, sent)
    assert await waiting(services) == ["queued"]


@pytest.fixture
def meanwhile(services, fsck):
    """`meanwhile(sha256, work)`: what a repair finds that waits for the file, while `work(session)` is done to it."""

    async def run(sha256: str, work, **options) -> list:
        waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        async with services.db.transaction() as session:
            await files.lock(session, [sha256])
            repair = asyncio.create_task(fsck(repair=True, **options))
            async with asyncio.timeout(60):
                while not await session.scalar(waiting):
                    assert not repair.done(), "it waits for nobody"
                    await asyncio.sleep(0.02)
            await work(session)
        return await repair

    return run


async def test_what_a_repair_would_move_is_looked_at_once_nobody_changes_it(
    meanwhile, services, robot, episode_file, stored
):
    stranger, own = episode_file(robot_id="nobody"), episode_file()
    for path in (stranger, own):
        sha256, data = digest(path), path.read_bytes()
        await services.blobs.publish(path, sha256)

        async def watched(session, sha256=sha256):
            await files.look_at(session, [sha256], utc_now() + timedelta(hours=1))

        assert await meanwhile(sha256, watched) == []
        assert await services.blobs.size(sha256) == len(data)
    assert stored("lost+found") == []


@pytest.mark.parametrize("wrong", [b"cut", None], ids=["wrong", "missing"])
async def test_a_file_that_is_sent_again_while_a_repair_waits_is_whole(
    wrong, meanwhile, sent, robot, services, stored, tmp_path
):
    (tmp_path / "copy").write_bytes(sent.read_bytes())
    if wrong is None:
        stored("blobs")[0].unlink()
    else:
        (tmp_path / "wrong").write_bytes(wrong)
        await services.blobs.publish(tmp_path / "wrong", digest(sent))

    async def published(session):
        await services.blobs.publish(tmp_path / "copy", digest(sent))

    assert await meanwhile(digest(sent), published) == []
    assert not await missing(robot, sent)
    assert stored("lost+found") == []


async def test_a_file_that_a_repair_moves_as_it_comes_is_no_receipt(fsck, robot, services, episode_file):
    path = episode_file()
    publish = services.blobs.publish

    async def moved(place, sha256):
        await publish(place, sha256)
        await services.blobs.set_aside(key(sha256))

    services.blobs.publish = moved
    try:
        assert (await robot.upload(path)).status_code == 503
    finally:
        del services.blobs.publish
    assert await missing(robot, path)
    # As the courier does: it asks how much is there, which may be the end of it, and sends again what is not.
    url = (await robot.announce(path.read_bytes(), path.stem)).headers["location"]
    await robot.http.head(url, headers={"Tus-Resumable": "1.0.0"})
    if await missing(robot, path):
        assert (await robot.upload(path)).status_code == 204
    assert not await missing(robot, path)
    assert await fsck(deep=True) == []


async def test_a_file_of_a_deleted_episode_makes_it_no_episode_again(fsck, services, robot, person, episode_file):
    first, other = episode_file(episode_id="e" * 32), None
    assert (await robot.upload(first)).status_code == 204
    admin = await person(Role.ADMIN)
    (await admin.delete(f"/api/v1/episodes/{first.stem}", params={"reason": "why"})).raise_for_status()
    other = episode_file(ticks=13, episode_id=first.stem)
    await services.blobs.publish(other, digest(other))
    assert [each.done for each in await fsck(repair=True)] == [f"went to lost+found: episode {first.stem} was deleted"]
    await admin.aclose()


def test_the_folders_have_every_digest_once(store):
    bounds = [folder_bounds(folder) for folder in FOLDERS]
    assert [beyond for _, beyond in bounds[:-1]] == [first for first, _ in bounds[1:]]
    assert (bounds[0][0], bounds[-1]) == ("00", ("ff", "g"))
    assert folder_bounds("a9") == ("a9", "aa")


def test_names_are_digests_below_two_folders(store):
    assert key("ab" + "cd" + "e" * 60) == "ab/cd/abcd" + "e" * 60
