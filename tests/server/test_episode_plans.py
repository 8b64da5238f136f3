"""The list of episodes is answered from indexes: the plans of every filter, on a table of 200,000 rows."""

import importlib.util
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from sqlalchemy import Select, exists, func, select

from lefleet_server import explain
from lefleet_server.analysis import FlagName, Quality
from lefleet_server.analysis import service as analyses
from lefleet_server.analysis.models import EpisodeAnalysis, EpisodeFlag
from lefleet_server.config import Settings
from lefleet_server.dashboard import queries
from lefleet_server.dashboard.filters import Filters
from lefleet_server.db import Database, utc_now
from lefleet_server.episodes import fsck, service, usage
from lefleet_server.episodes.models import Episode
from lefleet_server.episodes.service import EpisodeFilter, Stretch
from lefleet_server.jobs import backlog


def _beside_the_benchmarks(name: str):
    place = Path(__file__).parents[1] / "bench" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROWS = _beside_the_benchmarks("episode_rows")
EPISODES, ROBOTS = 200_000, 30
MOST_ROWS = 4_000
"""Looked at for a page of 50: a walk through everything looks at fifty times as many."""


# One in a hundred; ANALYZE, as autovacuum would.
_A_SET = """
INSERT INTO episode_sets (name, created_by) VALUES ('good', 'test');
INSERT INTO episode_set_members (set_id, episode_id, started_at)
SELECT 1, id, started_at FROM episodes WHERE hashtext(id) % 100 = 0;
ANALYZE episode_sets, episode_set_members;
"""


@pytest.fixture(scope="module")
async def many(postgres: dict) -> AsyncIterator[Database]:
    """A database of its own with many episodes; read only."""
    name = "episode_plans"
    async with _connected(postgres, "postgres") as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE lefleet")
    async with _connected(postgres, name) as connection:
        await ROWS.fill(connection, EPISODES, ROBOTS)
        await connection.execute(_A_SET)
    host = quote(postgres["host"], safe="")
    url = f"postgresql://{postgres['user']}:{postgres['password']}@/{name}?host={host}"
    db = Database(Settings(state_dir=Path("unused"), database_url=url))
    yield db
    await db.close()
    async with _connected(postgres, "postgres") as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def _connected(postgres: dict, name: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**postgres | {"database": name})
    yield connection
    await connection.close()


def nodes(plan: dict) -> Iterator[dict]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def looked_at(plan: dict) -> int:
    """Rows that scans read, those that a filter threw away included; what a bitmap only found in an index is none."""
    thrown = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(
        (node["Actual Rows"] + sum(node.get(name, 0) for name in thrown)) * node["Actual Loops"]
        for node in nodes(plan)
        if "Relation Name" in node
    )


async def plan_of(session, statement) -> dict:
    found = await explain.plan(session, statement, "ANALYZE, BUFFERS")
    kinds = {node["Node Type"] for node in nodes(found)}
    whole = {node["Relation Name"] for node in nodes(found) if node["Node Type"] == "Seq Scan"}
    # What is small may be read whole; episodes never.
    assert whole <= {"episode_sets", "episode_set_members", "pending_episodes"}, found
    assert kinds & {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}, found
    return found


def page_of(which: EpisodeFilter, deep: bool) -> Select:
    stretch = Stretch((utc_now() - timedelta(days=190), "f") if deep else None)
    return service.matching(which, stretch).order_by(Episode.started_at.desc(), Episode.id.desc()).limit(51)


SINGLE = {
    "robot": {"robot": "robot-7"},
    "policy": {"policy": "lab/policy-3"},
    "release": {"policy": "lab/policy-3", "release": ROWS.release(3, 1)},
    "task": {"task": ROWS.TASKS[1]},
    "old task": {"task": ROWS.OLD_TASK},
    "success": {"outcome": "success"},
    "unknown": {"outcome": "unknown"},
    "interrupted": {"interrupted": True},
    "finished": {"interrupted": False},
    "quarantined": {"quarantined": True},
    "whole": {"quarantined": False},
    "labelled": {"labelled": True},
    "unlabelled": {"labelled": False},
    "week": {"since": utc_now() - timedelta(days=7)},
    "spring": {"since": utc_now() - timedelta(days=250), "until": utc_now() - timedelta(days=180)},
    "set": {"in_set": "good"},
    "nothing": {"robot": "robot-none"},
}
OF_QUALITY = ("robot", "success", "interrupted", "whole", "labelled", "unlabelled", "week", "spring")
PAIRS = [(a, b) for a, b in itertools.combinations(SINGLE, 2) if not SINGLE[a].keys() & SINGLE[b].keys()]


@pytest.mark.parametrize("names", [(), *((name,) for name in SINGLE), *PAIRS], ids="+".join)
@pytest.mark.parametrize("deep", [False, True], ids=["newest", "deep"])
async def test_a_page_of_any_filter_or_pair_comes_from_an_index(many, names, deep):
    values = {name: value for each in names for name, value in SINGLE[each].items()}
    query = page_of(EpisodeFilter(**values), deep)
    async with many.session() as session:
        found = await plan_of(session, query)
    # A set beside another filter costs what the smaller of both holds: here a robot's episodes, or the whole set.
    most = EPISODES // 10 if "set" in names and len(names) > 1 else MOST_ROWS
    assert looked_at(found) <= most, found


@pytest.mark.parametrize("more", [{}, SINGLE["robot"], {"quality": Quality.CLEAN}], ids=["alone", "robot", "clean"])
@pytest.mark.parametrize("deep", [False, True], ids=["newest", "deep"])
async def test_a_task_that_ended_before_the_policy_came_is_no_walk_through_either(many, more, deep):
    which = EpisodeFilter(policy="lab/policy-5", task=ROWS.OLD_TASK, **more)
    async with many.session() as session:
        found = await plan_of(session, page_of(which, deep))
        assert (await session.scalars(page_of(which, deep))).all() == []
    assert looked_at(found) <= 100, found


async def test_a_policy_beside_a_task_loses_no_episode_at_either_end(many):
    async with many.session() as session:
        both = Episode.policy_repo == "lab/policy-3", Episode.task == ROWS.TASKS[2]
        really = set(await session.scalars(select(Episode.id).where(*both)))
        which = EpisodeFilter(policy="lab/policy-3", task=ROWS.TASKS[2])
        assert {each.id for each in await session.scalars(service.matching(which))} == really != set()
        flagged = EpisodeFilter(policy="lab/policy-3", quality=Quality.FLAGGED)
        ids = set(await session.scalars(service.matching(flagged).with_only_columns(Episode.id)))
        flags = select(EpisodeFlag.episode_id).where(EpisodeFlag.flag == EpisodeFlag.ANY)
        both = Episode.policy_repo == "lab/policy-3", Episode.id.in_(flags)
        assert ids == set(await session.scalars(select(Episode.id).where(*both))) != set()


async def test_labels_that_say_unknown_are_found_where_there_are_none(many):
    which = EpisodeFilter(outcome="unknown", labelled=True)
    async with many.session() as session:
        found = await plan_of(session, page_of(which, False))
    # Here the rows of two indexes are few enough to be compared; among millions they are not.
    assert [node.get("Index Name") for node in nodes(found) if "Scan" in node["Node Type"]] == [
        "ix_episodes_result_labelled"
    ]


@pytest.mark.parametrize("few", ["interrupted", "labelled"])
@pytest.mark.parametrize("outcome", ["success", "failure", "unknown"])
@pytest.mark.parametrize("deep", [False, True], ids=["newest", "deep"])
async def test_robot_policy_outcome_and_what_few_are_cost_the_page_alone(many, few, outcome, deep):
    values = SINGLE["robot"] | {"policy": "lab/policy-13", "outcome": outcome} | SINGLE[few]
    async with many.session() as session:
        found = await plan_of(session, page_of(EpisodeFilter(**values), deep))
    assert looked_at(found) <= 51, found


@pytest.mark.parametrize(
    "more", [{}, SINGLE["robot"], {"outcome": "failure"}, SINGLE["spring"]], ids=["alone", "robot", "failure", "spring"]
)
@pytest.mark.parametrize("flag", [FlagName.STALL, FlagName.CAMERA_DARK, FlagName.CAMERA_FROZEN])
@pytest.mark.parametrize("deep", [False, True], ids=["newest", "deep"])
async def test_a_flag_that_many_have_or_few_or_only_old_ones_is_answered_from_an_index(many, flag, more, deep):
    query = page_of(EpisodeFilter(flag=flag, **more), deep)
    async with many.session() as session:
        found = await plan_of(session, query)
        of_spring = more == SINGLE["spring"]
        assert (await session.scalars(query)).all() or (of_spring and flag == FlagName.CAMERA_FROZEN), "there are some"
    # Beside another filter it costs what the smaller of both holds, each looked at twice: the flag, and the episode.
    assert looked_at(found) <= MOST_ROWS * (2 if more else 1), found


@pytest.mark.parametrize("more", [{}, *(SINGLE[name] for name in OF_QUALITY)], ids=["alone", *OF_QUALITY])
@pytest.mark.parametrize("quality", Quality)
@pytest.mark.parametrize("deep", [False, True], ids=["newest", "deep"])
async def test_a_word_of_quality_is_answered_from_an_index(many, quality, more, deep):
    query = page_of(EpisodeFilter(quality=quality, **more), deep)
    async with many.session() as session:
        found = await plan_of(session, query)
        assert (await session.scalars(query)).all() or more or (deep and quality == Quality.PENDING), "there are some"
    assert looked_at(found) <= MOST_ROWS * (2 if more else 1), found


async def test_how_many_are_pending_is_told_without_a_look_at_the_others(many):
    async with many.session() as session:
        count = (
            select(func.count()).select_from(Episode).where(~exists().where(EpisodeAnalysis.episode_id == Episode.id))
        )
        told = await queries.size(session, Filters(quality=Quality.PENDING))
        assert told == queries.Size(await session.scalar(count), exact=True) and told.episodes > 5
        few = service.matching(EpisodeFilter(quality=Quality.PENDING)).with_only_columns(Episode.id)
        found = await plan_of(session, select(func.count()).select_from(few.limit(queries.COUNTED).subquery()))
    assert looked_at(found) <= MOST_ROWS, found


async def test_todays_totals_come_from_the_index_alone(many):
    async with many.session() as session:
        since = utc_now() - timedelta(days=30)
        told = await queries.day(session, since)
        counts = select(Episode.result, func.count()).where(Episode.started_at >= since).group_by(Episode.result)
        really = dict((await session.execute(counts)).all())
        assert told == queries.Day(sum(really.values()), really["success"], really["failure"])
        found = await plan_of(session, queries.day_query(since))
    scans = [node for node in nodes(found) if "Scan" in node["Node Type"]]
    assert {node["Node Type"] for node in scans} == {"Index Only Scan"}
    # VACUUM leaves pages alone where very few rows are dead (here: those that were found to be invalid).
    assert sum(node["Heap Fetches"] for node in scans) < 0.02 * told.episodes


async def test_policies_are_found_by_hops_along_an_index(many):
    async with many.session() as session:
        assert len((await queries.choices(session)).policies) == 24
        found = await plan_of(session, service.policies_query())
    assert looked_at(found) < 200


async def test_releases_and_tasks_are_found_by_hops_along_an_index(many):
    async with many.session() as session:
        offered = await queries.choices(session, "lab/policy-3")
        assert offered.tasks == sorted([*ROWS.TASKS, ROWS.OLD_TASK])
        newest = {release.commit: release.newest_at for release in offered.releases}
        counted = select(Episode.policy_commit, func.max(Episode.started_at)).where(
            Episode.policy_repo == "lab/policy-3"
        )
        assert newest == dict((await session.execute(counted.group_by(Episode.policy_commit))).all())
        assert newest.keys() == {ROWS.release(3, number) for number in range(3)}
        assert list(newest.values()) == sorted(newest.values(), reverse=True)
        for query in (queries.releases_query("lab/policy-3"), queries.tasks_query()):
            assert looked_at(await plan_of(session, query)) < 200


async def test_what_is_stored_is_told_without_a_look_at_the_episodes(many):
    async with many.session() as session:
        told = {each.robot_id: (each.episodes, each.bytes) for each in await usage.of_robots(session)}
        counts = select(Episode.robot_id, func.count(), func.sum(Episode.bytes)).group_by(Episode.robot_id)
        assert told == {robot: (n, size) for robot, n, size in await session.execute(counts)}
        assert looked_at(await plan_of(session, usage.quarantined_query())) < MOST_ROWS


@pytest.mark.parametrize("version", [1, 2], ids=["few", "all"])
async def test_what_a_page_of_episodes_lacks_is_found_without_a_look_at_the_others(many, version):
    async with many.session() as session:
        for after in ("", "8"):
            page = (await session.scalars(backlog.page_query(after))).all()
            assert looked_at(await plan_of(session, backlog.page_query(after))) <= backlog.PAGE
            found = await plan_of(session, backlog.needing_query(analyses.older(version), after, page[-1]))
            assert looked_at(found) <= MOST_ROWS, found


async def test_the_episodes_of_a_folder_of_files_are_found_by_an_index(many):
    async with many.session() as session:
        found = await plan_of(session, fsck.rows_query("a9"))
        rows = (await session.execute(fsck.rows_query("a9"))).all()
        assert len(rows) == await session.scalar(select(func.count()).where(Episode.sha256.like("a9%"))) > 0
    assert looked_at(found) == len(rows)


async def test_few_are_counted_and_many_estimated(many):
    async with many.session() as session:
        few = await queries.size(session, Filters(robot="robot-7", outcome="unknown"))
        count = select(func.count()).where(Episode.robot_id == "robot-7", Episode.result == "unknown")
        assert few == queries.Size(await session.scalar(count), exact=True)
        all_ = await queries.size(session, Filters())
        failures = await queries.size(session, Filters(outcome="failure"))
        of_release = await queries.size(session, Filters(**SINGLE["release"]))
        released = await session.scalar(
            select(func.count()).where(Episode.policy_commit == SINGLE["release"]["release"])
        )
        old = await queries.size(session, Filters(task=ROWS.OLD_TASK))
    assert not all_.exact and 0.9 * EPISODES < all_.episodes < 1.1 * EPISODES
    assert not failures.exact and 0.15 * EPISODES < failures.episodes < 0.3 * EPISODES
    assert not of_release.exact and 0.7 * released < of_release.episodes < 1.4 * released
    assert not old.exact and 0.03 * EPISODES < old.episodes < 0.06 * EPISODES
