"""Success rates beside one another, over the API: counted by policy and by release, over the filter's episodes."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from lefleet_server.comparison import service
from lefleet_server.episodes.models import Episode

URL = "/api/v1/comparison"
NOW = datetime.now(UTC)


def rows(policy: str, commit: str, successes: int, failures: int, unknown: int = 0, **changes: object) -> list[dict]:
    outcomes = ["success"] * successes + ["failure"] * failures + ["unknown"] * unknown
    same = {"robot_id": "robot-1", "bytes": 1, "started_at": NOW, "ended_at": NOW, "duration_s": 1, "frames": 1}
    same |= {"frames_dropped": 0, "fps": 30, "hz_held": 30, "interrupted": False, "end_reason": "", "task": ""}
    same |= {"policy_digest": "", "cameras": [], "meta": {}, "image_index": {}, "label_outcome": None}
    same |= {"policy_repo": policy, "policy_commit": commit} | changes
    made = []
    for outcome in outcomes:
        id_ = uuid.uuid4().hex
        made.append(same | {"id": id_, "receipt_id": id_, "sha256": id_ * 2, "outcome": outcome})
    return made


@pytest.fixture
async def stored(robot, services):
    async def store(*groups: list[dict]) -> None:
        async with services.db.transaction() as session:
            for group in groups:
                await session.execute(insert(Episode), group)

    return store


async def ask(client, **query: str) -> dict:
    answer = await client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_policies_are_counted_and_the_largest_is_the_baseline(stored, operator):
    await stored(
        rows("lab/a", "1" * 40, 60, 40, unknown=7), rows("lab/b", "2" * 40, 48, 2), rows("lab/c", "3" * 40, 4, 1)
    )
    found = await ask(operator)
    groups = {group["key"]: group for group in found["groups"]}
    assert (found["episodes"], found["cut"], list(groups)) == (162, False, ["lab/a", "lab/b", "lab/c"])
    assert (groups["lab/a"]["rate"], groups["lab/a"]["unknown"], groups["lab/a"]["difference"]) == (0.6, 7, None)
    assert groups["lab/b"]["difference"]["verdict"] == "better"
    assert groups["lab/c"]["difference"]["verdict"] == "cannot tell yet"
    assert groups["lab/c"]["difference"]["words"].startswith("cannot tell yet: 4 of 5 and 60 of 100; ")
    turned = await ask(operator, baseline="lab/b")
    assert {g["key"]: g["difference"] and g["difference"]["verdict"] for g in turned["groups"]} == {
        "lab/a": "worse",
        "lab/b": None,
        "lab/c": "cannot tell yet",
    }


async def test_releases_are_commits_of_a_policy_and_a_persons_label_counts(stored, operator):
    old = rows("lab/a", "1" * 40, 9, 1)
    await stored(old, rows("lab/a", "2" * 40, 0, 10, label_outcome="success"), rows("", "", 1, 0))
    found = await ask(operator, by="release", policy="lab/a")
    assert [(g["key"], g["successes"], g["judged"]) for g in found["groups"]] == [
        (f"lab/a@{'1' * 40}", 9, 10),
        (f"lab/a@{'2' * 40}", 10, 10),
    ]


async def test_filters_restrict_what_is_counted(stored, operator):
    early = rows("lab/a", "", 5, 0, started_at=NOW - timedelta(days=9))
    await stored(early, rows("lab/a", "", 0, 5), rows("lab/a", "", 2, 0, interrupted=True))
    found = await ask(operator, since=(NOW - timedelta(days=1)).isoformat(), interrupted="false")
    assert [(group["successes"], group["judged"]) for group in found["groups"]] == [(0, 5)]


async def test_nothing_to_compare_is_an_empty_list_and_an_unknown_baseline_a_404(stored, operator):
    assert await ask(operator) == {"groups": [], "episodes": 0, "cut": False}
    await stored(rows("lab/a", "", 1, 0))
    answer = await operator.get(URL, params={"baseline": "lab/z"})
    assert answer.status_code == 404
    assert "'lab/z'" in answer.json()["detail"]


async def test_only_the_newest_are_counted_and_it_is_said(stored, operator, monkeypatch):
    monkeypatch.setattr(service, "MAX_EPISODES", 20)
    await stored(rows("lab/a", "", 15, 0), rows("lab/b", "", 15, 0, started_at=NOW - timedelta(days=1)))
    found = await ask(operator)
    assert (found["episodes"], found["cut"]) == (20, True)
    assert sum(group["judged"] for group in found["groups"]) == 20
