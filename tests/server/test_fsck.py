"""`lefleet-server fsck`: rows and files, both ways, on both stores."""

import hashlib
import uuid

import pytest
from sqlalchemy import delete, select

from lefleet_server.episodes.fsck import Fault, Fsck
from lefleet_server.episodes.models import Episode
from lefleet_server.storage import key

pytestmark = pytest.mark.parametrize("store", ["local", "s3"])


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


async def test_a_whole_store_is_clean(fsck, sent):
    assert await fsck(deep=True) == []


async def test_an_episode_whose_file_is_lost_is_asked_of_its_robot_again(fsck, sent, robot, stored, operator):
    stored("blobs")[0].unlink()
    assert [each.fault for each in await fsck()] == [Fault.MISSING]
    assert not await missing(robot, sent), "without --repair nothing changes"
    assert [(each.fault, each.remains) for each in await fsck(repair=True)] == [(Fault.MISSING, True)]
    assert await missing(robot, sent)
    assert (await operator.get(f"/api/v1/episodes/{sent.stem}/file")).status_code == 404
    assert (await operator.get(f"/api/v1/episodes/{sent.stem}/signals")).status_code == 404
    assert (await operator.get(f"/api/v1/episodes/{sent.stem}/frames/front/0.jpg")).status_code == 404
    assert (await robot.upload(sent)).status_code == 204
    assert not await missing(robot, sent)
    assert await fsck(deep=True) == []


async def test_a_file_that_is_cut_goes_to_lost_and_found(fsck, sent, robot, services, stored, tmp_path):
    (tmp_path / "cut").write_bytes(b"cut")
    await services.blobs.publish(tmp_path / "cut", digest(sent))
    assert [each.fault for each in await fsck(repair=True)] == [Fault.WRONG_SIZE]
    assert len(stored("lost+found")) == 1
    assert await missing(robot, sent)


async def test_only_deep_reads_the_bytes(fsck, sent, stored):
    blob = stored("blobs")[0]
    blob.write_bytes(bytes(blob.stat().st_size))
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
    assert [each.fault for each in await fsck(repair=True)] == [Fault.FOUND_AGAIN]
    assert not await missing(robot, sent)


def test_names_are_digests_below_two_folders(store):
    assert key("ab" + "cd" + "e" * 60) == "ab/cd/abcd" + "e" * 60
