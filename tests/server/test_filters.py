"""One description of which episodes: whatever it restricts, list, sets and comparison restrict alike."""

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta
from inspect import signature
from urllib.parse import parse_qsl, urlsplit

import pytest
from sqlalchemy import insert, select

from lefleet_server.accounts.models import User
from lefleet_server.analysis import FlagName, Quality
from lefleet_server.analysis.models import EpisodeAnalysis
from lefleet_server.cli.filters import Outcome, filters
from lefleet_server.comparison.service import comparison
from lefleet_server.dashboard import queries
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.quality import QUALITIES
from lefleet_server.dashboard.queries import Release
from lefleet_server.db import utc_now
from lefleet_server.episodes.models import Episode
from lefleet_server.episodes.routes import Which
from lefleet_server.episodes.service import EpisodeFilter
from lefleet_server.sets import service as sets

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
LONG = "Put the block on the disc, then wait. " * 4
TASKS = ["Lift the block", "Lift", f"{LONG}Left", f"{LONG}Right", LONG[:100], ""]
CASES = {
    "robot": ("robot-2", {1, 3, 5}),
    "policy": ("lab/b", {0, 3}),
    "release": ("aaaa", {1, 2}),
    "task": ("Lift", {1}),
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
BESIDE = {"release": {"policy": "lab/a"}}
"""What a filter is given together with."""
ON_PAGES = [
    ("robot", "robot-2", {1, 3, 5}),
    ("policy", "lab/b", {0, 3}),
    ("release", "aaaa", {1, 2}),
    ("task", "Lift", {1}),
    ("task", f"{LONG}Right", {3}),
    ("outcome", "failure", {1, 4}),
    ("interrupted", True, {0, 5}),
    ("quality", "clean", {1}),
    ("quality", "flagged", {2, 4}),
    ("quality", "dropped_frames", set()),
    ("quality", "stall", {2}),
    ("quality", "idle", set()),
    ("quality", "jerk", {4}),
    ("quality", "saturation", set()),
    ("quality", "camera_frozen", set()),
    ("quality", "camera_dark", set()),
    ("quality", "quarantined", {3}),
    ("quality", "pending", {0, 5}),
    ("labelled", True, {2}),
    ("in_set", "good", {1, 4}),
    ("last", "1h", set()),
    ("since", START + 4 * HOUR, {4, 5}),
    ("until", START + 2 * HOUR, {0, 1}),
]
"""The dashboard's filters, with the numbers of their episodes."""
ENUMS = {"outcome": Outcome, "flag": FlagName, "quality": Quality}
PLACES = {"before", "after"}
"""Of a page, not of a filter."""
MORE = [
    ("quality", "flagged", {2, 4}),
    ("quality", "pending", {0, 5}),
    ("quarantined", False, {0, 1, 2, 4, 5}),
    ("task", "Lift the block", {0}),
    ("task", f"{LONG}Left", {2}),
    ("task", LONG[:100], {4}),
    ("task", "", {5}),
]


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
            "task": TASKS[number],
            "policy_repo": "lab/a" if number % 3 else "lab/b",
            "policy_commit": "aaaa" if number < 3 else "bbbb",
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
    offered = {each.name for each in dataclasses.fields(EpisodeFilter)}
    assert CASES.keys() == offered
    assert {value for name, value, _ in [*((n, *c) for n, c in CASES.items()), *MORE] if name == "quality"} == set(
        Quality
    )
    assert {name for name, *_ in ON_PAGES} == {each.name for each in dataclasses.fields(Filters)} - PLACES
    assert [value for name, value, _ in ON_PAGES if name == "quality"] == list(QUALITIES)


def test_the_api_and_the_command_line_offer_every_filter():
    offered = {each.name for each in dataclasses.fields(EpisodeFilter)}
    assert set(Which.model_fields) == set(signature(filters).parameters) == offered


@pytest.mark.parametrize(("name", "value", "_"), [*((n, *case) for n, case in CASES.items()), *MORE])
def test_the_command_line_sends_what_it_was_given(name, value, _):
    given = ENUMS[name](value) if name in ENUMS else value
    assert filters(**{name: given}) == {name: value}


@pytest.mark.parametrize(("name", "value", "numbers"), [*((n, *case) for n, case in CASES.items()), *MORE])
async def test_list_set_and_comparison_hold_the_same_episodes(episodes, operator, name, value, numbers):
    wanted, which = {episodes[number] for number in numbers}, BESIDE.get(name, {}) | {name: value}
    listed = (await operator.get("/api/v1/episodes", params=which)).raise_for_status().json()["items"]
    assert {each["id"] for each in listed} == wanted
    compared = (await operator.get("/api/v1/comparison", params=which)).raise_for_status().json()
    assert compared["episodes"] == len(wanted)
    (await operator.post("/api/v1/sets/other/episodes/matching", params=which)).raise_for_status()
    inside = (await operator.get("/api/v1/episodes", params={"in_set": "other"})).json()["items"]
    assert {each["id"] for each in inside} == wanted
    (await operator.post("/api/v1/sets/other/episodes/matching")).raise_for_status()
    taken = await operator.delete("/api/v1/sets/other/episodes/matching", params=which)
    assert taken.json() == {"added": 0, "removed": len(wanted)}
    left = (await operator.get("/api/v1/episodes", params={"in_set": "other"})).json()["items"]
    assert {each["id"] for each in left} == set(episodes) - wanted


@pytest.mark.parametrize(("name", "value", "numbers"), ON_PAGES)
async def test_what_the_pages_list_is_what_they_compare_and_collect(episodes, services, name, value, numbers):
    wanted, shown = {episodes[number] for number in numbers}, Filters(**BESIDE.get(name, {}) | {name: value})
    assert Filters.parse(_query(shown)) == shown, "the address keeps it"
    async with services.db.transaction() as session:
        page = await queries.episode_page(session, shown, 50)
        assert {row.id for row in page.rows} == wanted
        assert await queries.size(session, shown) == queries.Size(len(wanted), exact=True)
        # As compare.py and sets.py do.
        assert (await comparison(session, shown.which(utc_now()), "policy")).episodes == len(wanted)
        user = (await session.scalars(select(User).limit(1))).one()
        assert (await sets.add_matching(session, user, "other", shown.which(utc_now()))).added == len(wanted)
        inside = await queries.episode_page(session, Filters(in_set="other"), 50)
        assert {row.id for row in inside.rows} == wanted


async def test_a_release_without_its_policy_is_refused_with_the_remedy(episodes, operator):
    refused = await operator.get("/api/v1/episodes", params={"release": "aaaa"})
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["field"] == "release" and "name the policy" in error["message"]
    assert Filters.parse({"release": "aaaa", "robot": "robot-1"}) == Filters(robot="robot-1"), "a page shows something"


async def test_releases_and_tasks_are_offered_newest_release_first(episodes, services):
    async with services.db.session() as session:
        everywhere = await queries.choices(session)
        of_policy = await queries.choices(session, "lab/a")
    assert everywhere.releases == () and everywhere.policies == of_policy.policies == ["lab/a", "lab/b"]
    # Three begin alike for longer than the index: the newest stands for them.
    assert everywhere.tasks == ["Lift", "Lift the block", LONG[:100]]
    assert of_policy.releases == [Release("bbbb", START + 5 * HOUR), Release("aaaa", START + 2 * HOUR)]


def _query(shown: Filters) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(shown.address("/episodes")).query))
