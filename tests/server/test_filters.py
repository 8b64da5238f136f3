"""One description of which episodes: whatever it restricts, list, sets and comparison restrict alike."""

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from lefleet_server.analysis import Quality
from lefleet_server.analysis.models import EpisodeAnalysis
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.quality import QUALITIES
from lefleet_server.episodes.models import Episode
from lefleet_server.episodes.service import EpisodeFilter

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
STALL = {"name": "stall", "where": "", "value": 1.0, "threshold": 0.1, "unit": "s"}
ANALYSES = {
    1: {"state": "analysed", "reason": None, "flags": []},
    2: {"state": "analysed", "reason": None, "flags": [STALL]},
    3: {"state": "quarantined", "reason": "no action", "flags": []},
    4: {"state": "analysed", "reason": None, "flags": [STALL | {"name": "jerk"}]},
}
"""Of the episodes by number; no worker has looked at the others."""
CASES = {
    "robot": ("robot-2", {1, 3, 5}),
    "policy": ("lab/b", {0, 3}),
    "outcome": ("failure", {1, 4}),
    "since": ((START + 4 * HOUR).isoformat(), {4, 5}),
    "until": ((START + 2 * HOUR).isoformat(), {0, 1}),
    "interrupted": (True, {0, 5}),
    "quarantined": (True, {3}),
    "flag": ("stall", {2}),
    "quality": ("clean", {1}),
    "labelled": (True, {2}),
    "in_set": ("good", {1, 4}),
}
MORE = [("quality", "flagged", {2, 4}), ("quality", "pending", {0, 5}), ("quarantined", False, {0, 1, 2, 4, 5})]


@pytest.fixture
async def episodes(enrol, services, operator):
    """Ids by number."""
    robots = [await enrol(f"robot-{number}") for number in (1, 2)]
    ids = [uuid.UUID(int=number).hex for number in range(6)]
    rows = [
        {
            "id": id_,
            "robot_id": f"robot-{1 + number % 2}",
            "receipt_id": id_,
            "sha256": f"{number:064x}",
            "bytes": 1,
            "started_at": START + number * HOUR,
            "ended_at": START + number * HOUR,
            "duration_s": 1.0,
            "frames": 1,
            "frames_dropped": 0,
            "fps": 30.0,
            "hz_held": 30.0,
            "outcome": ["success", "failure", "unknown"][number % 3],
            "label_outcome": "success" if number == 2 else None,
            "interrupted": number % 5 == 0,
            "end_reason": "",
            "task": "",
            "policy_repo": "lab/a" if number % 3 else "lab/b",
            "policy_commit": "",
            "policy_digest": "",
            "cameras": [],
            "meta": {},
            "image_index": {},
        }
        for number, id_ in enumerate(ids)
    ]
    found = [{"episode_id": ids[number], "version": 1, "statistics": {}, **each} for number, each in ANALYSES.items()]
    async with services.db.transaction() as session:
        await session.execute(insert(Episode), rows)
        await session.execute(insert(EpisodeAnalysis), found)
    for name in ("good", "other"):
        (await operator.post("/api/v1/sets", json={"name": name})).raise_for_status()
    good = {"add": [ids[1], ids[4]]}
    (await operator.patch("/api/v1/sets/good/episodes", json=good)).raise_for_status()
    yield ids
    for robot in robots:
        await robot.http.aclose()


def test_every_filter_is_tried():
    assert CASES.keys() == {each.name for each in dataclasses.fields(EpisodeFilter)}
    assert {value for name, value, _ in [*((n, *c) for n, c in CASES.items()), *MORE] if name == "quality"} == set(
        Quality
    )


@pytest.mark.parametrize(("name", "value", "numbers"), [*((n, *case) for n, case in CASES.items()), *MORE])
async def test_list_set_and_comparison_hold_the_same_episodes(episodes, operator, name, value, numbers):
    wanted, which = {episodes[number] for number in numbers}, {name: value}
    listed = (await operator.get("/api/v1/episodes", params=which)).raise_for_status().json()["items"]
    assert {each["id"] for each in listed} == wanted
    compared = (await operator.get("/api/v1/comparison", params=which)).raise_for_status().json()
    assert compared["episodes"] == len(wanted)
    (await operator.post("/api/v1/sets/other/episodes/matching", params=which)).raise_for_status()
    inside = (await operator.get("/api/v1/episodes", params={"in_set": "other"})).json()["items"]
    assert {each["id"] for each in inside} == wanted


@pytest.mark.parametrize("word", QUALITIES)
def test_the_dashboards_words_of_quality_restrict_whatever_they_are_used_for(word):
    now = datetime.now(UTC)
    assert Filters(quality=word).which(now) not in {EpisodeFilter(), Filters().which(now)}
