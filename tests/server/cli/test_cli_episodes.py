"""`lefleet episodes`, `quarantine`, `jobs`, `people` and `audit`: what is found, changed, and by whom."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from lefleet_server.accounts.models import Role
from lefleet_server.analysis.models import EpisodeAnalysis
from lefleet_server.episodes.models import Episode
from lefleet_server.jobs import queue

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
COUNT = 1100


@pytest.fixture
async def many(robot, enrol, services):
    """More than two pages of the API, a minute apart."""
    await (await enrol("robot-2")).http.aclose()
    rows = [
        {
            "id": uuid.UUID(int=number).hex,
            "robot_id": f"robot-{1 + number % 2}",
            "receipt_id": uuid.uuid4().hex,
            "sha256": f"{number:064x}",
            "bytes": 1000,
            "started_at": START + timedelta(minutes=number),
            "ended_at": START + timedelta(minutes=number, seconds=20),
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
        }
        for number in range(COUNT)
    ]
    async with services.db.transaction() as session:
        await session.execute(insert(Episode), rows)
        bad = {"version": 1, "state": "quarantined", "reason": "no action", "flags": [], "statistics": {}}
        await session.execute(insert(EpisodeAnalysis), [{"episode_id": row["id"], **bad} for row in rows[:3]])
    return rows


FILTERS = [
    (["--robot", "robot-2", "--outcome", "failure"], lambda n, row: n % 2 == 1 and row["outcome"] == "failure"),
    (["--policy", "lefleet/expert", "--interrupted"], lambda n, row: n % 4 == 0 and row["interrupted"]),
    (["--whole"], lambda n, row: not row["interrupted"]),
    (["--since", "2026-11-01T14:00:00Z", "--until", "2026-11-01 16:00:00+01:00"], lambda n, _: 120 <= n < 180),
    (["--quarantined"], lambda n, _: n < 3),
    (["--sound", "--robot", "robot-1"], lambda n, _: n >= 3 and n % 2 == 0),
]


async def test_lists_hold_what_the_filters_say_newest_first_over_all_pages(many, with_token):
    script = await with_token(Role.VIEWER)

    async def ids(*words: object) -> list[str]:
        return (await script.ok("episodes", "list", "--ids", "-n", "5000", *words)).out.split()

    newest = many[::-1]
    assert await ids() == [row["id"] for row in newest]
    for words, holds in FILTERS:
        expected = [row["id"] for number, row in reversed(list(enumerate(many))) if holds(number, row)]
        assert 0 < len(expected) < COUNT
        assert await ids(*words) == expected, words
    few = await script.ok("episodes", "list", "--limit", "3", "--json")
    assert [item["id"] for item in few.items] == [row["id"] for row in newest[:3]]
    assert "--limit 3 was reached" in few.err
    table = (await script.ok("episodes", "list", "-n", "3")).out.splitlines()
    assert len(table) == 5 and many[-1]["id"] in table[2]
    shown = f"{many[-1]['started_at'].astimezone():%Y-%m-%d %H:%M:%S}"
    assert shown in table[2], "the time is this machine's"
    quarantined = (await script.ok("quarantine", "--robot", "robot-1", "--json")).items
    assert {item["id"]: item["reason"] for item in quarantined} == {r["id"]: "no action" for r in many[:3:2]}


async def test_a_zone_is_this_machine_s_when_none_is_given(many, with_token):
    script = await with_token(Role.VIEWER)
    script.environment["TZ"] = "Asia/Tokyo"  # nine hours ahead
    done = await script.ok("episodes", "list", "--since", "2026-11-01T21:30", "--until", "2026-11-01T21:32", "--json")
    assert [item["id"] for item in done.items] == [many[31]["id"], many[30]["id"]]
    assert "2026-11-01 21:31:00" in (await script.ok("episodes", "list", "--until", "2026-11-01T21:32", "-n", "1")).out


async def test_labels_are_given_to_many_and_notes_stay(many, with_token, services):
    script = await with_token(Role.OPERATOR)
    first, second = many[0]["id"], many[1]["id"]
    await script.ok("episodes", "label", "failure", first, second, "--note", "dropped the cube")
    done = await script(
        "episodes", "label", "success", "-", "--json", given=f"{first}\n{'e' * 32}\n{second}\n{first}\n"
    )
    assert (done.status, [item["id"] for item in done.items]) == (3, [first, second])
    assert f"{'e' * 32}: no episode" in done.err
    shown = (await script.ok("episodes", "show", first, "--json")).item
    assert (shown["label_outcome"], shown["label_note"], shown["analysis"]["reason"]) == (
        "success",
        "dropped the cube",
        "no action",
    )
    text = (await script.ok("episodes", "show", first)).out
    assert "dropped the cube" in text and "quarantined" in text and "no action" in text
    for words, left in (((), "dropped the cube"), (("--note", ""), None)):
        await script.ok("episodes", "label", "none", first, *words)
        async with services.db.session() as session:
            episode = await session.get(Episode, first)
            assert (episode.label_outcome, episode.label_note) == (None, left)
    assert (await script("episodes", "label", "success", "e" * 32)).status == 1
    viewer = await with_token(Role.VIEWER)
    refused = await viewer("episodes", "label", "success", first)
    assert refused.status == 1 and "role operator" in refused.err


async def test_numbers_and_pictures_come_out_of_the_file(robot, episode_file, with_token, tmp_path):
    path = episode_file()
    assert (await robot.upload(path)).is_success
    script = await with_token(Role.VIEWER)
    signals = json.loads((await script.ok("episodes", "signals", path.stem)).out)
    assert (signals["frames"], len(signals["qpos"])) == (12, 6)
    await script.ok("episodes", "picture", path.stem, "wrist", 3, "--to", tmp_path / "frame.jpg")
    assert (tmp_path / "frame.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    none = await script("episodes", "picture", path.stem, "wrist", 12, "--to", tmp_path / "none.jpg")
    assert none.status == 1 and "frames 0 to 11, not 12" in none.err
    assert "not analysed yet" in (await script.ok("episodes", "show", path.stem)).out


async def test_dead_jobs_are_listed_with_the_reason_and_retried(robot, episode_file, with_token, services):
    assert (await robot.upload(episode_file())).is_success
    script = await with_token(Role.OPERATOR)
    assert "no jobs wait" in (await script.ok("jobs", "list", "--dead")).err
    async with services.db.transaction() as session:
        job = await queue.claim(session, "a", "worker-1")
        assert await queue.fail(session, job, "the disk is full", 1) == "dead"
    listed = await script.ok("jobs", "list", "--dead", "--json")
    assert (listed.item["id"], listed.item["reason"]) == (job.id, "the disk is full")
    assert "the disk is full" in (await script.ok("jobs", "list")).out
    states = [[each["state"] for each in (await script.ok("jobs", "list", "--json", "--state", state)).items]
              for state in ("dead", "running")]  # fmt: skip
    assert states == [["dead"], []]
    assert (await script("jobs", "list", "--dead", "--state", "running")).status == 2
    counts = {each["queue"]: each["dead"] for each in (await script.ok("jobs", "queues", "--json")).items}
    assert sum(counts.values()) == 1
    assert "KIND" in (await script.ok("jobs", "queues")).out
    assert (await script("jobs", "retry")).status == 2
    assert (await script.ok("jobs", "retry", job.id, "--json")).item == {"retried": 1}
    assert (await script.ok("jobs", "retry", "--yes")).out == "0 jobs are queued again\n"


async def test_people_are_kept_and_the_log_says_by_whom(with_token, services, connect):
    script = await with_token(Role.ADMIN)
    await script.ok("people", "add", "zoe", "--role", "operator")
    taken = await script("people", "add", "zoe")
    assert taken.status == 1 and "there is an account 'zoe' already" in taken.err
    link = (await script.ok("people", "link", "zoe")).out.strip()
    async with connect() as zoe:
        assert (await zoe.post("/api/v1/login", json={"code": link.partition("code=")[2]})).is_success
        assert (await script.ok("people", "sessions", "zoe", "--json")).item["address"] == "127.0.0.1"
        found = {each["username"]: each for each in (await script.ok("people", "list", "--json")).items}["zoe"]
        assert (found["sessions"], found["tokens"], found["has_password"]) == (1, 0, False)
        assert found["logged_in_at"] is not None and "none yet" in (await script.ok("people", "list")).out
        assert (await zoe.get("/api/v1/me")).json()["role"] == "operator"
        await script.ok("people", "role", "zoe", "viewer")
        assert (await zoe.get("/api/v1/me")).json()["role"] == "viewer"
        assert (await script.ok("people", "end-sessions", "zoe", "--yes", "--json")).item == {"ended": 1}
        assert (await zoe.get("/api/v1/me")).status_code == 401
    assert (await script("people", "disable", "zoe")).status == 2
    assert "disabled" in (await script.ok("people", "disable", "zoe", "--yes")).out
    assert "disabled" in (await script.ok("people", "list")).out
    assert (await script.ok("people", "enable", "zoe", "--json")).item["disabled_at"] is None
    entries = (await script.ok("audit", "--subject", "user:zoe", "--since", "1h", "--json")).items
    assert [entry["action"] for entry in entries][-1] == "user.added"
    assert {entry["via"] is not None for entry in entries if entry["action"] == "user.changed"} == {True}
    only = (await script.ok("audit", "--action", "user.changed", "-n", "2", "--json")).items
    assert len(only) == 2
    assert "user.login-code" in (await script.ok("audit")).out
    async with services.db.session() as session:
        assert await session.scalar(select(Episode.id)) is None
    viewer = await with_token(Role.VIEWER)
    for words in (["audit"], ["people", "list"], ["people", "add", "eve"]):
        assert "role admin" in (await viewer(*words)).err
