"""Finding episodes, reading pictures and signals out of their files, labelling them."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import h5py
import numpy as np
import pytest
from sqlalchemy import insert, select, text

from lefleet_server.accounts.models import AuditEntry
from lefleet_server.episodes.models import Episode

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
async def many(robot, enrol, services):
    """25 episodes of two robots and two policies; pairs share their start, so that only the id orders them."""
    other = await enrol("robot-2")
    await other.http.aclose()
    rows = [row(number) for number in range(25)]
    async with services.db.transaction() as session:
        await session.execute(insert(Episode), rows)
    return rows


def row(number: int, **changes: object) -> dict:
    return {
        "id": uuid.UUID(int=(number * 7919) % 1000).hex,
        "robot_id": f"robot-{1 + number % 2}",
        "receipt_id": uuid.uuid4().hex,
        "sha256": f"{number:064x}",
        "bytes": 1000,
        "started_at": START + timedelta(minutes=number // 2),
        "ended_at": START + timedelta(minutes=number // 2, seconds=20),
        "duration_s": 20.0,
        "frames": 600,
        "frames_dropped": 0,
        "fps": 30.0,
        "hz_held": 30.0,
        "outcome": ["success", "failure", "unknown"][number % 3],
        "interrupted": number % 5 == 0,
        "end_reason": "",
        "task": "",
        "policy_repo": f"lefleet/{'act' if number % 4 else 'expert'}",
        "policy_commit": "",
        "policy_digest": "",
        "cameras": [],
        "meta": {},
        "image_index": {},
    } | changes


async def walk(client, limit: int, between=None, **filters: str) -> list[str]:
    """The ids of all pages in order."""
    found, cursor = [], {}
    while True:
        page = (await client.get("/api/v1/episodes", params=filters | {"limit": limit} | cursor)).json()
        found += [item["id"] for item in page["items"]]
        assert len(page["items"]) <= limit
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}
        if between:
            await between()


@pytest.mark.parametrize("limit", [1, 7, 25, 100])
async def test_pages_hold_every_episode_once_newest_first(many, operator, limit):
    expected = [r["id"] for r in sorted(many, key=lambda r: (r["started_at"], r["id"]), reverse=True)]
    assert await walk(operator, limit) == expected


async def test_pages_are_stable_while_episodes_arrive(many, operator, services):
    numbers = iter(range(100, 200))

    async def arrive():
        """One newer than all and one older than all, between any two pages."""
        pair = [next(numbers), next(numbers)]
        async with services.db.transaction() as session:
            await session.execute(insert(Episode).values(row(pair[0])))
            await session.execute(insert(Episode).values(row(pair[1], started_at=START - timedelta(days=pair[1]))))

    seen = await walk(operator, 4, arrive)
    before = [r["id"] for r in sorted(many, key=lambda r: (r["started_at"], r["id"]), reverse=True)]
    assert len(seen) == len(set(seen))
    assert [each for each in seen if each in set(before)] == before


@pytest.mark.parametrize(
    ("filters", "holds"),
    [
        ({"robot": "robot-2"}, lambda r: r["robot_id"] == "robot-2"),
        ({"policy": "lefleet/expert"}, lambda r: r["policy_repo"] == "lefleet/expert"),
        ({"outcome": "failure"}, lambda r: r["outcome"] == "failure"),
        ({"interrupted": "true"}, lambda r: r["interrupted"]),
        ({"since": "2026-11-01T12:05:00Z"}, lambda r: r["started_at"] >= START + timedelta(minutes=5)),
        ({"until": "2026-11-01T13:05:00+01:00"}, lambda r: r["started_at"] < START + timedelta(minutes=5)),
        ({"robot": "none"}, lambda r: False),
    ],
)
async def test_filters_restrict(many, operator, filters, holds):
    expected = {r["id"] for r in many if holds(r)}
    assert set(await walk(operator, 4, **filters)) == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("since=yesterday", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("outcome=won", "outcome"),
        ("interrupted=perhaps", "interrupted"),
        ("cursor=x", "cursor"),
        ("cursor=W10=", "cursor"),
        ("cursor=WzEsMl0=", "cursor"),
        ("robot=%00", "robot"),
    ],
)
async def test_a_wrong_query_names_the_field(operator, query, field):
    answer = await operator.get(f"/api/v1/episodes?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in [error["field"] for error in answer.json()["errors"]]


@pytest.mark.parametrize("path", ["%00", "%ff", "..%2f..", "x" * 3000, "😀"])
async def test_a_strange_path_is_a_4xx(operator, path):
    for where in (f"/api/v1/episodes/{path}", f"/api/v1/robots/{path}", f"/api/v1/episodes/{path}/frames/{path}/1.jpg"):
        assert 400 <= (await operator.get(where)).status_code < 500


async def test_the_list_is_read_from_an_index(many, services):
    copied = "robot_id, receipt_id, bytes, ended_at, duration_s, frames, frames_dropped, fps, hz_held, outcome, "
    copied += "interrupted, end_reason, task, policy_repo, policy_commit, policy_digest, cameras, meta, image_index"
    copies = (
        f"INSERT INTO episodes (id, sha256, started_at, {copied}) "  # noqa: S608 - column names from above
        f"SELECT id || n, sha256 || n, started_at - n * interval '1 hour', {copied} "
        "FROM episodes, generate_series(1, 400) AS n"
    )
    async with services.db.session() as session:
        await session.execute(text(copies))
        await session.execute(text("ANALYZE episodes"))
        for where in ("true", "robot_id = 'robot-1'", "policy_repo = 'lefleet/act'", "result = 'success'"):
            query = f"EXPLAIN SELECT * FROM episodes WHERE {where} AND (started_at, id) < (now(), 'f') "  # noqa: S608
            plan = "\n".join(await session.scalars(text(query + "ORDER BY started_at DESC, id DESC LIMIT 50")))
            assert "Index Scan Backward" in plan
            assert "Sort" not in plan


async def test_every_picture_is_the_files_by_byte_range(robot, operator, episode_file):
    path = episode_file()
    await robot.upload(path)
    with h5py.File(path) as file:
        for camera in ("front", "wrist"):
            lengths = file[f"observations/image_bytes/{camera}"][:]
            rows = file[f"observations/images/{camera}"][:]
            for index in (0, 5, 11):
                answer = await operator.get(f"/api/v1/episodes/{path.stem}/frames/{camera}/{index}.jpg")
                assert answer.content == rows[index, : lengths[index]].tobytes()
                assert answer.headers["content-type"] == "image/jpeg"
                assert "immutable" in answer.headers["cache-control"]
    for wrong in ("front/12", "front/-1", "side/0"):
        assert (await operator.get(f"/api/v1/episodes/{path.stem}/frames/{wrong}.jpg")).status_code == 404


async def test_a_camera_without_a_picture_yet_is_404(robot, operator, episode_file):
    def late(file: h5py.File) -> None:
        file["observations/image_bytes/front"][0] = 0
        file["observations/images/front"][0] = 0

    path = episode_file(late)
    assert (await robot.upload(path)).status_code == 204
    assert (await operator.get(f"/api/v1/episodes/{path.stem}/frames/front/0.jpg")).status_code == 404
    assert (await operator.get(f"/api/v1/episodes/{path.stem}/frames/front/1.jpg")).status_code == 200


async def test_signals_are_the_files_columns(robot, operator, episode_file):
    def hole(file: h5py.File) -> None:
        file["action"][4, 2] = np.nan

    path = episode_file(hole)
    await robot.upload(path)
    answer = await operator.get(f"/api/v1/episodes/{path.stem}/signals")
    signals = json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    with h5py.File(path) as file:
        np.testing.assert_allclose(signals["qpos"], file["observations/qpos"][:].T, atol=1e-4)
    assert signals["action"][2][4] is None
    assert signals["time_s"][:2] == [0.0, 0.033333]
    assert signals["image_age_ms"]["front"][0] == 5.0
    assert signals["joint_names"][-1] == "gripper"
    assert (signals["held"], signals["intervention"]) == ([], [])  # as the first agents wrote it


async def test_what_was_held_and_who_led_are_told_for_each_tick(robot, operator, episode_file):
    def led(file: h5py.File) -> None:
        for name, ticks in (("held", [3]), ("intervention", [5, 6])):
            file.create_dataset(name, data=np.isin(np.arange(12), ticks).astype("u1"))

    path = episode_file(led)
    await robot.upload(path)
    signals = (await operator.get(f"/api/v1/episodes/{path.stem}/signals")).json()
    assert [tick for tick in range(12) if signals["held"][tick]] == [3]
    assert [tick for tick in range(12) if signals["intervention"][tick]] == [5, 6]


async def test_the_file_comes_back_as_it_was_sent(robot, operator, episode_file):
    path = episode_file()
    await robot.upload(path)
    answer = await operator.get(f"/api/v1/episodes/{path.stem}/file")
    assert answer.content == path.read_bytes()
    assert f"robot-1-{path.stem}.h5" in answer.headers["content-disposition"]


async def test_a_label_counts_before_the_robots_word_and_is_audited(robot, person, episode_file, services):
    path = episode_file()
    await robot.upload(path)
    ann = await person(name="ann")
    url = f"/api/v1/episodes/{path.stem}/label"
    first = (await ann.put(url, json={"outcome": "failure", "note": "it slipped"})).json()
    assert (first["outcome"], first["label_outcome"], first["result"]) == ("success", "failure", "failure")
    assert await walk(ann, 10, outcome="failure") == [path.stem]
    assert (await ann.put(url, json={"outcome": None})).json()["result"] == "success"
    async with services.db.session() as session:
        query = select(AuditEntry).where(AuditEntry.action == "episode.labelled").order_by(AuditEntry.id)
        entries = (await session.scalars(query)).all()
    assert [entry.actor for entry in entries] == ["user:ann", "user:ann"]
    assert entries[0].subject == f"episode:{path.stem}"
    assert entries[1].detail == {
        "old": {"outcome": "failure", "note": "it slipped"},
        "new": {"outcome": None, "note": None},
    }
    await ann.aclose()


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "outcome"), ({"outcome": "won"}, "outcome"), ({"outcome": "success", "by": "x"}, "by")],
)
async def test_a_wrong_label_names_the_field(operator, body, field):
    answer = await operator.put("/api/v1/episodes/none/label", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
