"""Deleting episodes: at once, for good, never what is held, and no robot offers one for ever."""

import asyncio
import hashlib

import pytest
from sqlalchemy import text

from lefleet_server.accounts.models import Role
from lefleet_server.deletion import files, service
from lefleet_server.episodes import ingest
from lefleet_server.episodes.fsck import Fault, Fsck
from lefleet_server.problems import Conflict, Gone

API = "/api/v1"
WHY = {"reason": "a face is in it"}
every_store = pytest.mark.parametrize("store", ["local", "s3", "azure"])


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"deleted_file_grace_s": 0})


@pytest.fixture
async def admin(person):
    client = await person(Role.ADMIN, "ada")
    yield client
    await client.aclose()


@pytest.fixture
async def sent(robot, episode_file):
    path = episode_file()
    assert (await robot.upload(path)).status_code == 204
    return path


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def fsck(services, *, repair=False):
    check = Fsck(services.settings, services.db, services.blobs, repair=repair, deep=True, young_s=-60)
    return [finding async for finding in check.findings(lambda _: None)]


async def count(services, query: str) -> int:
    async with services.db.session() as session:
        return await session.scalar(text(query))


@every_store
async def test_a_deleted_episode_takes_its_file_along_and_leaves_who_and_why(admin, services, sent, stored):
    answer = await admin.delete(f"{API}/episodes/{sent.stem}", params=WHY)
    assert answer.status_code == 200, answer.text
    assert answer.json()["deleted_by"] == "user:ada"
    gone = await admin.get(f"{API}/episodes/{sent.stem}")
    assert (gone.status_code, "a face is in it" in gone.json()["detail"]) == (410, True)
    assert (await admin.delete(f"{API}/episodes/{sent.stem}", params=WHY)).status_code == 410
    assert await fsck(services) == [], "a file that will go is nothing wrong"
    assert await files.remove_due(services.db, services.blobs) == 1
    assert stored("blobs") == []
    assert await fsck(services) == []
    assert await count(services, "SELECT count(*) FROM jobs") == 0
    (entry,) = (await admin.get(f"{API}/audit", params={"action": "episode.deleted"})).json()["items"]
    assert (entry["subject"], entry["actor"]) == (f"episode:{sent.stem}", "user:ada")
    assert (entry["detail"]["reason"], entry["detail"]["sha256"]) == ("a face is in it", digest(sent))


async def test_a_deletion_wants_its_reason(admin, sent):
    for params in ({}, {"reason": " "}):
        answer = await admin.delete(f"{API}/episodes/{sent.stem}", params=params)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "reason")
    assert (await admin.delete(f"{API}/episodes/none", params=WHY)).status_code == 404


async def test_a_file_stays_as_long_as_a_backup_may_need_it(admin, services, sent, settings, stored):
    async with services.db.transaction() as session:
        await service.delete_episode(session, sent.stem, "test", "why", 3600)
    assert await files.remove_due(services.db, services.blobs) == 0
    assert len(stored("blobs")) == 1
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE blob_removals SET due_at = now()"))
    assert await files.remove_due(services.db, services.blobs) == 1


async def test_a_robot_that_offers_a_deleted_episode_hears_that_it_need_not_keep_it(admin, robot, sent, services):
    before = (await robot.http.get(f"{API}/robot/receipts/{digest(sent)}")).json()
    (await admin.delete(f"{API}/episodes/{sent.stem}", params=WHY)).raise_for_status()
    receipt = (await robot.http.get(f"{API}/robot/receipts/{digest(sent)}")).json()
    assert receipt.pop("deleted_wall_ns") > before.pop("received_wall_ns")
    assert {name: receipt[name] for name in before if name in receipt}.items() <= before.items()
    assert receipt["receipt_id"] == before["receipt_id"]
    missing = await robot.http.post(f"{API}/robot/receipts/missing", json={"sha256": [digest(sent), "0" * 64]})
    assert missing.json()["sha256"] == ["0" * 64]
    offered = await robot.announce(sent.read_bytes(), sent.stem)
    assert (offered.status_code, offered.json()["type"].rsplit("/")[-1]) == (409, "episode-deleted")
    assert "receipts" in offered.json()["detail"]


async def test_another_file_under_a_deleted_episodes_id_and_another_robots_bytes_are_not_taken(
    admin, robot, enrol, sent, episode_file
):
    (await admin.delete(f"{API}/episodes/{sent.stem}", params=WHY)).raise_for_status()
    data = sent.read_bytes()
    other = await robot.announce(data + b"more", sent.stem)
    assert (other.status_code, other.json()["type"].rsplit("/")[-1]) == (409, "episode-exists")
    stranger = await enrol("robot-2")
    assert (await stranger.announce(data, sent.stem)).status_code == 422
    assert (await stranger.http.get(f"{API}/robot/receipts/{digest(sent)}")).status_code == 404


@every_store
async def test_an_episode_that_is_deleted_while_it_is_sent_again_stays_deleted(admin, robot, services, sent, stored):
    """The file was lost, its robot sends it again, and the deletion comes before the last byte."""
    stored("blobs")[0].unlink()
    await fsck(services, repair=True)
    data = sent.read_bytes()
    url = (await robot.announce(data, sent.stem)).headers["location"]
    (await admin.delete(f"{API}/episodes/{sent.stem}", params=WHY)).raise_for_status()
    answer = await robot.send(url, data)
    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (409, "episode-deleted")
    await files.remove_due(services.db, services.blobs)
    assert stored("blobs") == [] and stored("incoming") == []
    assert await fsck(services) == []


async def test_a_deletion_between_check_and_commit_wins(admin, robot, services, sent, stored, monkeypatch):
    stored("blobs")[0].unlink()
    await fsck(services, repair=True)
    publish = services.blobs.publish

    async def publish_and_lose(path, sha256):
        await publish(path, sha256)
        (await admin.delete(f"{API}/episodes/{sent.stem}", params=WHY)).raise_for_status()
        await files.remove_due(services.db, services.blobs)
        path.write_bytes(sent.read_bytes())
        await publish(path, sha256)  # as slow as that

    monkeypatch.setattr(services.blobs, "publish", publish_and_lose)
    answer = await robot.upload(sent)
    assert answer.json()["type"].rsplit("/")[-1] == "episode-deleted"
    assert await count(services, "SELECT count(*) FROM episodes") == 0
    await files.remove_due(services.db, services.blobs)
    assert stored("blobs") == []


async def test_a_left_over_file_of_a_deleted_episode_becomes_no_episode_again(admin, services, sent, stored, tmp_path):
    copy = tmp_path / "copy"
    copy.write_bytes(sent.read_bytes())
    (await admin.delete(f"{API}/episodes/{sent.stem}", params=WHY)).raise_for_status()
    await files.remove_due(services.db, services.blobs)
    await services.blobs.publish(copy, digest(sent))
    assert [(each.fault, each.remains) for each in await fsck(services)] == [(Fault.DELETED, True)]
    assert [(each.fault, each.remains) for each in await fsck(services, repair=True)] == [(Fault.DELETED, False)]
    assert stored("blobs") == []


@pytest.mark.parametrize("what", ["episode", "robot"])
async def test_what_is_held_is_not_deleted_until_an_administrator_releases_it(admin, operator, sent, what):
    subject = f"{API}/{what}s/{sent.stem if what == 'episode' else 'robot-1'}/hold"
    placed = await operator.put(subject, json={"reason": "a court asks"})
    assert placed.status_code == 200, placed.text
    (hold,) = (await operator.get(f"{API}/holds")).json()["items"]
    assert hold["reason"] == "a court asks"
    answer = await admin.delete(f"{API}/episodes/{sent.stem}", params=WHY)
    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (409, "held")
    assert "a court asks" in answer.json()["detail"]
    assert (await operator.delete(subject)).status_code == 403
    assert (await admin.delete(subject)).status_code == 204
    assert (await admin.delete(subject)).status_code == 404
    assert (await admin.delete(f"{API}/episodes/{sent.stem}", params=WHY)).status_code == 200
    actions = [entry["action"] for entry in (await admin.get(f"{API}/audit")).json()["items"]]
    assert [action for action in actions if action.startswith("hold")] == ["hold.released", "hold.placed"]


async def test_pages_of_holds_have_each_one_once_newest_first(operator, admin, robot, episode_file):
    subjects = [f"{API}/robots/robot-1/hold"]
    for number in range(4):
        path = episode_file(ticks=2 + number)
        await robot.upload(path)
        subjects.append(f"{API}/episodes/{path.stem}/hold")
    for number, subject in enumerate(subjects):
        (await operator.put(subject, json={"reason": f"claim {number}"})).raise_for_status()
    first = (await operator.get(f"{API}/holds", params={"limit": 2})).json()
    assert [hold["reason"] for hold in first["items"]] == ["claim 4", "claim 3"]
    # What is released and placed in between neither hides nor repeats another one.
    (await admin.delete(subjects[3])).raise_for_status()
    (await operator.put(subjects[3], json={"reason": "again"})).raise_for_status()
    params = {"limit": 2, "cursor": first["next_cursor"]}
    second = (await operator.get(f"{API}/holds", params=params)).json()
    assert [hold["reason"] for hold in second["items"]] == ["claim 2", "claim 1"]
    last = (await operator.get(f"{API}/holds", params={"limit": 2, "cursor": second["next_cursor"]})).json()
    assert ([hold["reason"] for hold in last["items"]], last["next_cursor"]) == (["claim 0"], None)
    assert (await operator.get(f"{API}/holds", params={"limit": 0})).status_code == 422


async def test_of_a_hold_and_a_deletion_at_once_one_wins_and_the_other_hears_it(admin, robot, episode_file):
    for turn in range(8):
        path = episode_file(ticks=2 + turn)
        (await robot.upload(path)).raise_for_status()
        subject = f"{API}/episodes/{path.stem}"
        hold, deletion = await asyncio.gather(
            admin.put(f"{subject}/hold", json={"reason": "now"}), admin.delete(subject, params=WHY)
        )
        assert {hold.is_success, deletion.is_success} == {True, False}, (hold.text, deletion.text)
        assert (await admin.get(subject)).is_success == hold.is_success


async def test_the_database_itself_refuses_to_delete_what_is_held(operator, services, sent):
    await operator.put(f"{API}/episodes/{sent.stem}/hold", json={"reason": "a court asks"})
    with pytest.raises(Exception, match="legal_holds"):
        async with services.db.transaction() as session:
            await session.execute(text("DELETE FROM episodes"))


async def test_two_deletions_at_once_are_one(services, sent):
    async def once():
        async with services.db.transaction() as session:
            return await service.delete_episode(session, sent.stem, "test", "why", 0)

    ended = await asyncio.gather(once(), once(), return_exceptions=True)
    assert sorted(type(each).__name__ for each in ended) == ["DeletedEpisode", "Gone"]
    assert await count(services, "SELECT count(*) FROM audit_log WHERE action = 'episode.deleted'") == 1


async def test_a_file_that_something_names_again_stays(services, sent):
    async with services.db.transaction() as session:
        await files.look_at(session, [digest(sent)])
    removed = await asyncio.gather(*(files.remove_due(services.db, services.blobs) for _ in range(2)))
    assert removed == [0, 0]
    assert await services.blobs.size(digest(sent)) == sent.stat().st_size
    assert await count(services, "SELECT count(*) FROM blob_removals") == 0


async def test_a_file_that_cannot_be_removed_is_tried_again_and_holds_up_no_other(services, settings, monkeypatch):
    async with services.db.transaction() as session:
        await files.look_at(session, ["0" * 64, "1" * 64])
    asked = []

    async def refuse(sha256):
        asked.append(sha256)
        raise PermissionError(13, "denied")

    monkeypatch.setattr(services.blobs, "remove", refuse)
    assert await files.remove_due(services.db, services.blobs) == 0
    assert sorted(asked) == ["0" * 64, "1" * 64]
    assert await count(services, "SELECT count(*) FROM blob_removals WHERE due_at > now()") == 2


async def test_a_receipt_for_a_deleted_episode_is_the_robots_own(services, robot, sent):
    async with services.db.transaction() as session:
        await service.delete_episode(session, sent.stem, "test", "why", 0)
    async with services.db.session() as session:
        assert (await ingest.receipt(session, "robot-1", digest(sent))).episode_id == sent.stem
        with pytest.raises((Conflict, Gone)):
            await service.delete_episode(session, sent.stem, "test", "why", 0)
