"""Named sets: filled by ids and by filters, listed in order, exported with what training needs, always audited."""

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from lefleet_server.accounts.models import AuditEntry, Role
from lefleet_server.episodes.models import Episode
from lefleet_server.sets import service

URL = "/api/v1/sets"
NOW = datetime.now(UTC)


@pytest.fixture
async def ids(robot, services) -> list[str]:
    """1,500 episodes, newest first; every third failed."""
    same = {"robot_id": "robot-1", "bytes": 1, "ended_at": NOW, "duration_s": 1, "frames": 1, "interrupted": False}
    same |= {"frames_dropped": 0, "fps": 30, "hz_held": 30, "cameras": [], "meta": {}, "image_index": {}}
    same |= dict.fromkeys(("end_reason", "task", "policy_repo", "policy_commit", "policy_digest"), "")
    made = [uuid.uuid4().hex for _ in range(1500)]
    rows = [
        same
        | {"id": id_, "receipt_id": id_, "sha256": id_ * 2, "started_at": NOW - timedelta(minutes=number)}
        | {"outcome": "success" if number % 3 else "failure"}
        for number, id_ in enumerate(made)
    ]
    async with services.db.transaction() as session:
        await session.execute(insert(Episode), rows)
    return made


@pytest.fixture
async def good(operator) -> str:
    (await operator.post(URL, json={"name": "good", "note": "for training"})).raise_for_status()
    return f"{URL}/good"


async def inside(client) -> list[str]:
    """The ids of the set in the list's order, page by page."""
    found, cursor = [], {}
    while True:
        page = (await client.get("/api/v1/episodes", params={"in_set": "good", "limit": 400} | cursor)).json()
        found += [each["id"] for each in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_a_set_is_filled_and_emptied_by_ids(ids, operator, good):
    answer = await operator.patch(f"{good}/episodes", json={"add": [ids[7], ids[2], ids[5]]})
    assert answer.json() == {"added": 3, "removed": 0}
    answer = await operator.patch(f"{good}/episodes", json={"add": [ids[2], ids[9]], "remove": [ids[5], ids[100]]})
    assert answer.json() == {"added": 1, "removed": 1}
    assert await inside(operator) == [ids[2], ids[7], ids[9]]
    told = (await operator.get(good)).json()
    assert (told["name"], told["note"], told["episodes"]) == ("good", "for training", 3)
    assert (await operator.get(URL)).json()["items"] == [told]


async def test_a_set_is_filled_and_emptied_by_a_filter(ids, operator, good):
    answer = await operator.post(f"{good}/episodes/matching", params={"outcome": "success"})
    assert answer.json() == {"added": 1000, "removed": 0}
    assert await inside(operator) == [id_ for number, id_ in enumerate(ids) if number % 3]
    since = (NOW - timedelta(minutes=29.5)).isoformat()
    answer = await operator.delete(f"{good}/episodes/matching", params={"since": since})
    assert answer.json() == {"added": 0, "removed": 20}
    assert len(await inside(operator)) == 980


async def test_an_export_names_every_file_and_its_hash_oldest_first(robot, operator, good, episode_file):
    paths = [episode_file(started_wall_ns=(1_780_000_000 + n) * 10**9) for n in range(3)]
    for path in paths:
        (await robot.upload(path)).raise_for_status()
    await operator.post(f"{good}/episodes/matching")
    answer = await operator.get(f"{good}/export")
    assert answer.headers["content-type"].startswith("application/jsonl")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == [path.stem for path in paths]
    for line, path in zip(lines, paths, strict=True):
        data = (await operator.get(line["file"])).content
        assert hashlib.sha256(data).hexdigest() == line["sha256"]
        assert (len(data), data) == (line["bytes"], path.read_bytes())


async def test_a_long_export_holds_each_episode_once(ids, operator, good):
    await operator.post(f"{good}/episodes/matching")
    lines = (await operator.get(f"{good}/export")).text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids[::-1]


async def test_each_change_is_audited_with_its_count_and_what_changes_nothing_is_not(ids, operator, good, services):
    await operator.patch(f"{good}/episodes", json={"add": ids[:2]})
    await operator.patch(f"{good}/episodes", json={"add": ids[:2]})
    await operator.post(f"{good}/episodes/matching", params={"outcome": "success"})
    await operator.delete(good)
    async with services.db.session() as session:
        query = select(AuditEntry).where(AuditEntry.subject == "set:good").order_by(AuditEntry.id)
        entries = [(entry.action, entry.detail) for entry in await session.scalars(query)]
    assert entries == [
        ("set.created", {"note": "for training"}),
        ("set.changed", {"added": 2, "removed": 0, "add": ids[:2], "remove": []}),
        ("set.changed", {"added": 999, "removed": 0, "add_matching": {"outcome": "success"}}),
        ("set.deleted", {"episodes": 1001}),
    ]


async def test_one_that_is_not_there_and_too_many_change_nothing(ids, operator, good, monkeypatch):
    answer = await operator.patch(f"{good}/episodes", json={"add": [ids[0], "0" * 32]})
    assert (answer.status_code, "0" * 32 in answer.json()["detail"]) == (404, True)
    monkeypatch.setattr(service, "MAX_MATCHING", 1499)
    answer = await operator.post(f"{good}/episodes/matching")
    assert (answer.status_code, "narrow the filters" in answer.json()["detail"]) == (422, True)
    assert await inside(operator) == []


@pytest.mark.parametrize("name", ["", "../up", "a b", "-x", "x" * 64])
async def test_a_wrong_name_is_refused(operator, name):
    answer = await operator.post(URL, json={"name": name})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "name")


async def test_a_name_is_given_once_and_a_viewer_gives_none(operator, good, person):
    assert (await operator.post(URL, json={"name": "good"})).status_code == 409
    viewer = await person(Role.VIEWER)
    assert (await viewer.post(URL, json={"name": "mine"})).status_code == 403
    assert (await viewer.get(good)).status_code == 200
    await viewer.aclose()


async def test_deleting_a_set_leaves_its_episodes(ids, operator, good):
    await operator.post(f"{good}/episodes/matching")
    assert (await operator.delete(good)).status_code == 204
    assert (await operator.get(f"/api/v1/episodes/{ids[0]}")).status_code == 200
    assert (await operator.get(good)).status_code == 404
    assert await inside(operator) == []
