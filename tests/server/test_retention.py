"""Retention: the rules as a pure engine, and what they delete from a real database."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from typer.testing import CliRunner

from lefleet_server.__main__ import cli
from lefleet_server.accounts.models import Role
from lefleet_server.deletion import files
from lefleet_server.episodes.fsck import Fsck
from lefleet_server.problems import Conflict, NotFound
from lefleet_server.retention import nightly, service
from lefleet_server.retention.rules import Candidate, Group, Plan, Rule, covers, verdicts

API = "/api/v1"
NOW = datetime(2026, 6, 1, tzinfo=UTC)

OUTCOMES = ("success", "failure", "unknown")
ROBOTS = ("robot-1", "robot-2", "robot-3")
limits = st.tuples(st.none() | st.floats(0, 100), st.none() | st.integers(0, 2000)).filter(lambda both: any_set(*both))
rules = st.lists(
    st.builds(
        lambda both, outcomes, robots, labelled: Rule("", *both, outcomes, robots, labelled),
        limits,
        st.frozensets(st.sampled_from(OUTCOMES)),
        st.frozensets(st.sampled_from(ROBOTS)),
        st.none() | st.booleans(),
    ),
    max_size=4,
).map(lambda found: [Rule(str(n), *values_of(rule)) for n, rule in enumerate(found)])
candidates = st.lists(
    st.builds(
        Candidate,
        id=st.uuids().map(str),
        robot_id=st.sampled_from(ROBOTS),
        result=st.sampled_from(OUTCOMES),
        labelled=st.booleans(),
        bytes=st.integers(1, 500),
        received_at=st.floats(0, 120).map(lambda days: NOW - timedelta(days=days)),
        held=st.booleans(),
    ),
    max_size=25,
).map(lambda found: sorted(found, key=lambda each: (each.received_at, each.id)))


def any_set(*values: object) -> bool:
    return any(value is not None for value in values)


def values_of(rule: Rule) -> tuple:
    return rule.older_than_days, rule.quota_bytes, rule.outcomes, rule.robots, rule.labelled


def plan_of(rules, found) -> Plan:
    return Plan.of(rules, [Group(c.robot_id, c.result, c.labelled, c.bytes) for c in found], NOW)


def taken(rules, found) -> list[tuple[Candidate, Rule]]:
    return [(it, rule) for it, rule in verdicts(plan_of(rules, found), found) if not it.held]


@given(candidates)
def test_without_a_rule_nothing_goes(found):
    assert taken([], found) == []


@given(rules, candidates)
def test_what_goes_is_covered_and_past_every_limit_and_not_held(rules, found):
    for it, rule in taken(rules, found):
        assert not it.held and covers(rule, it)
        assert rule.older_than_days is None or it.received_at < NOW - timedelta(days=rule.older_than_days)


@given(rules, candidates)
def test_a_rule_of_age_alone_leaves_nothing_older_but_what_is_held(rules, found):
    gone = {it.id for it, _ in taken(rules, found)}
    for rule in rules:
        if rule.quota_bytes is None:
            old = [c for c in found if covers(rule, c) and c.received_at < NOW - timedelta(days=rule.older_than_days)]
            assert {c.id for c in old if not c.held} <= gone


@given(rules, candidates)
def test_a_quota_is_kept_and_not_undercut_by_more_than_its_last_episode(rules, found):
    for rule in (each for each in rules if each.older_than_days is None):
        scope = [c for c in found if covers(rule, c)]
        gone = [it for it, _ in taken([rule], found)]
        left = sum(c.bytes for c in scope) - sum(c.bytes for c in gone)
        assert left <= rule.quota_bytes or all(c.held for c in scope if c not in gone)
        assert not gone or left + gone[-1].bytes > rule.quota_bytes


@given(rules, candidates)
def test_of_one_quota_the_oldest_go(rules, found):
    for rule in (each for each in rules if each.older_than_days is None):
        free = [c for c in found if covers(rule, c) and not c.held]
        gone = [it for it, _ in taken([rule], found)]
        assert gone == free[: len(gone)]


@given(rules, candidates)
def test_a_hold_only_ever_saves(rules, found):
    """What is held stays, and holding everything deletes nothing."""
    everything = [Candidate(c.id, c.robot_id, c.result, c.labelled, c.bytes, c.received_at, True) for c in found]
    assert taken(rules, everything) == []
    assert not {c.id for c in found if c.held} & {it.id for it, _ in taken(rules, found)}


@given(rules, candidates)
def test_nothing_beyond_the_horizon_goes(rules, found):
    horizon = plan_of(rules, found).horizon()
    if horizon is not None:
        assert all(it.received_at < horizon for it, _ in taken(rules, found))


def test_a_rule_without_a_limit_is_refused():
    with pytest.raises(ValueError, match="older_than_days or quota_bytes"):
        Rule("everything", outcomes=frozenset({"success"}))


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"deleted_file_grace_s": 0})


@pytest.fixture
async def admin(person):
    client = await person(Role.ADMIN, "ada")
    yield client
    await client.aclose()


@pytest.fixture
async def stored_ones(robot, episode_file, services) -> list[str]:
    """Six episodes, the first received ten days ago, the last five days ago."""
    ids = []
    for number in range(6):
        path = episode_file(outcome=("success", "failure")[number % 2], ticks=4)
        (await robot.upload(path)).raise_for_status()
        ids.append(path.stem)
        async with services.db.transaction() as session:
            at = "UPDATE episodes SET received_at = now() - make_interval(days => :days) WHERE id = :id"
            await session.execute(text(at), {"days": 10 - number, "id": path.stem})
    return ids


async def there(services) -> set[str]:
    async with services.db.session() as session:
        return set(await session.scalars(text("SELECT id FROM episodes")))


async def put(admin, name, **rule):
    answer = await admin.put(f"{API}/retention/rules/{name}", json=rule)
    assert answer.is_success, answer.text


async def test_a_plan_says_what_apply_then_does(admin, operator, services, settings, stored_ones, stored):
    await put(admin, "old", older_than_days=7.5, enabled=True)
    await put(admin, "off", older_than_days=0)
    await operator.put(f"{API}/episodes/{stored_ones[0]}/hold", json={"reason": "a court asks"})
    plan = (await admin.get(f"{API}/retention/plan")).json()
    assert (plan["applied"], plan["total"]["episodes"], plan["held"]["episodes"]) == (False, 2, 1)
    assert plan["examples"] == [{"episode_id": each, "rule": "old"} for each in stored_ones[1:3]]
    assert plan["held_examples"] == [{"episode_id": stored_ones[0], "rule": "old"}]
    assert await there(services) == set(stored_ones), "a plan deletes nothing"
    named = (await admin.get(f"{API}/retention/plan", params={"rule": "off"})).json()
    assert named["total"]["episodes"] == 5
    assert (await admin.get(f"{API}/retention/plan", params={"rule": "none"})).status_code == 404

    report = await service.apply(services.db, settings, "retention")
    assert (report.total.episodes, report.total.bytes) == (2, plan["total"]["bytes"])
    assert await there(services) == {stored_ones[0], *stored_ones[3:]}
    assert await files.remove_due(services.db, services.blobs) == 2
    assert len(stored("blobs")) == 4
    (entry, _) = (await admin.get(f"{API}/audit", params={"action": "episode.deleted"})).json()["items"]
    assert entry["actor"] == "retention"
    assert entry["detail"]["reason"] == "retention rule old: older than 7.5 days"
    assert (await service.apply(services.db, settings, "retention")).total.episodes == 0


async def test_a_quota_keeps_the_newest_of_its_scope(admin, services, settings, stored_ones, operator):
    sizes = {each: (await operator.get(f"{API}/episodes/{each}")).json()["bytes"] for each in stored_ones}
    failures = stored_ones[1::2]
    await put(admin, "few", quota_bytes=sizes[failures[-1]], outcomes=["failure"], enabled=True)
    await service.apply(services.db, settings, "retention")
    assert await there(services) == {*stored_ones[::2], failures[-1]}


async def test_what_a_person_labels_meanwhile_is_left_alone(admin, operator, services, settings, stored_ones):
    await put(admin, "unseen", older_than_days=1, labelled=False, enabled=True)
    labelled = False

    async def told(_):
        nonlocal labelled
        if not labelled:
            labelled = True
            await operator.put(f"{API}/episodes/{stored_ones[3]}/label", json={"outcome": "success"})

    report = await service.apply(services.db, settings, "retention", told=told)
    assert (report.total.episodes, report.changed) == (5, 1)
    assert await there(services) == {stored_ones[3]}


async def test_rules_are_kept_with_who_changed_them(admin, operator):
    await put(admin, "old", older_than_days=30)
    await put(admin, "old", older_than_days=30)
    await put(admin, "old", older_than_days=60, enabled=True)
    (rule,) = (await admin.get(f"{API}/retention/rules")).json()["items"]
    assert (rule["older_than_days"], rule["enabled"], rule["changed_by"]) == (60, True, "user:ada")
    assert (await admin.delete(f"{API}/retention/rules/old")).status_code == 204
    assert (await admin.delete(f"{API}/retention/rules/old")).status_code == 404
    entries = (await admin.get(f"{API}/audit", params={"action": "retention"})).json()["items"]
    assert [entry["action"].removeprefix("retention.") for entry in entries] == [
        "rule-removed",
        "rule-changed",
        "rule-changed",
    ]
    assert entries[1]["detail"]["old"]["older_than_days"] == 30
    everything = await admin.put(f"{API}/retention/rules/all", json={"outcomes": ["success"], "enabled": True})
    assert (everything.status_code, "delete everything" in everything.text) == (422, True)


async def test_a_rule_is_changed_only_as_it_was_seen(services):
    old, wider = Rule("old", older_than_days=7.5), Rule("old", older_than_days=0)
    async with services.db.transaction() as session:
        row = await service.add_rule(session, old, "user:ada")
        assert row.enabled is False
        seen = row.changed_at
    with pytest.raises(Conflict, match="there is a rule 'old' already"):
        async with services.db.transaction() as session:
            await service.add_rule(session, wider, "user:bob")
    async with services.db.transaction() as session:
        await service.put_rule(session, wider, False, "user:bob")
    with pytest.raises(Conflict, match="bob changed the rule 'old' meanwhile"):
        async with services.db.transaction() as session:
            await service.change_rule(session, old, True, seen, "user:ada")
    async with services.db.transaction() as session:
        (row,) = await service.list_rules(session)
        assert (row.older_than_days, row.enabled) == (0, False)
        changed = await service.change_rule(session, service.rule_of(row), True, row.changed_at, "user:ada")
        assert (changed.enabled, changed.changed_by) == (True, "user:ada")
        await service.remove_rule(session, "old", "user:ada")
    with pytest.raises(NotFound, match="somebody removed it"):
        async with services.db.transaction() as session:
            await service.change_rule(session, old, True, seen, "user:ada")


@pytest.mark.parametrize(
    ("hour", "last_day", "expected"),
    [
        (3, None, (2, 3)),
        (3, 1, (2, 3)),
        (3, 2, (3, 3)),
        (22, 1, (2, 22)),
        (22, 2, (3, 22)),
    ],
)
def test_the_next_run_is_todays_until_it_has_begun(hour, last_day, expected):
    noon = datetime(2026, 5, 2, 12, 30, tzinfo=UTC)
    at = nightly.next_at(hour, noon, last_day and noon.date().replace(day=last_day))
    assert (at.day, at.hour, at.minute) == (*expected, 0)


async def test_the_nightly_run_waits_for_its_hour_and_runs_once_of_two_workers(admin, services, settings, stored_ones):
    await put(admin, "old", older_than_days=7.5, enabled=True)
    night = datetime.now(UTC)
    settings = settings.model_copy(update={"retention_most_percent": 50})

    async def run(name, at=night, **changes):
        return await nightly.run(services.db, settings.model_copy(update=changes), name, at)

    assert await run("a") is None, "nothing is deleted unless an hour is set"
    assert await run("a", night.replace(hour=1), retention_hour_utc=2) is None
    ended = await asyncio.gather(*(run(name, retention_hour_utc=0) for name in "ab"))
    assert [each.total.episodes for each in ended if each] == [3]
    assert await run("c", retention_hour_utc=0) is None
    assert len(await there(services)) == 3
    async with services.db.session() as session:
        row = (await session.execute(text("SELECT episodes, ended_at FROM retention_runs"))).one()
    assert (row.episodes, row.ended_at is not None) == (3, True)


async def test_a_night_whose_worker_died_is_taken_over_once_it_was_silent(admin, services, settings, stored_ones):
    await put(admin, "old", older_than_days=7.5, enabled=True)
    now = datetime.now(UTC)
    settings = settings.model_copy(update={"retention_hour_utc": 0, "retention_most_percent": 50})
    async with services.db.transaction() as session:
        dead = "INSERT INTO retention_runs (day, worker) VALUES (:day, 'dead')"
        await session.execute(text(dead), {"day": now.date()})
    assert await nightly.run(services.db, settings, "b", now) is None
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE retention_runs SET beat_at = now() - interval '1 hour'"))
    assert (await nightly.run(services.db, settings, "b", now)).total.episodes == 3


async def test_a_night_that_would_delete_too_much_deletes_nothing_and_says_so(admin, services, settings, stored_ones):
    await put(admin, "old", older_than_days=7.5, enabled=True)
    now = datetime.now(UTC)
    settings = settings.model_copy(update={"retention_hour_utc": 0, "retention_most_percent": 49})
    report = await nightly.run(services.db, settings, "a", now)
    assert (report.applied, report.total.episodes) == (False, 3)
    assert len(await there(services)) == 6
    async with services.db.session() as session:
        last = await nightly.last(session)
    assert last.ended_at is not None
    assert last.refused == "the rules would delete 3 of 6 episodes, more than retention_most_percent = 49"
    assert await nightly.run(services.db, settings, "b", now) is None, "the night is over"
    assert (await service.apply(services.db, settings, "user:ada")).total.episodes == 3, "a person may"


async def test_people_are_told_when_the_rules_delete_next_and_what_the_last_night_did(admin, app, services, settings):
    await put(admin, "old", older_than_days=7.5, enabled=True)
    await put(admin, "off", older_than_days=1)

    async def told() -> dict:
        return (await admin.get(f"{API}/retention/nights")).raise_for_status().json()

    assert await told() == {"next_at": None, "enabled": 1, "last": None}
    nightly_from_midnight = settings.model_copy(update={"retention_hour_utc": 0})
    app.state.services = replace(services, settings=nightly_from_midnight)
    now = datetime.now(UTC)
    assert datetime.fromisoformat((await told())["next_at"]).date() == now.date(), "no worker has been there today"
    await nightly.run(services.db, nightly_from_midnight, "a", now)
    found = await told()
    assert datetime.fromisoformat(found["next_at"]).date() == now.date() + timedelta(days=1)
    assert (found["last"]["day"], found["last"]["episodes"]) == (now.date().isoformat(), 0)
    assert found["last"]["ended_at"] is not None and found["last"]["refused"] == ""


async def test_a_clock_that_is_a_year_ahead_deletes_nothing(admin, services, settings, stored_ones):
    await put(admin, "old", older_than_days=300, enabled=True)
    settings = settings.model_copy(update={"retention_hour_utc": 0})
    now = datetime.now(UTC)
    assert not (await nightly.run(services.db, settings, "a", now + timedelta(days=400))).applied
    assert len(await there(services)) == 6
    async with services.db.transaction() as session:  # as its PostgreSQL, of the same clock, writes it
        await session.execute(text("UPDATE retention_runs SET beat_at = now() + interval '400 days'"))
    assert (await nightly.run(services.db, settings, "a", now)).applied, "its own night, when the clock is right again"
    async with services.db.session() as session:
        assert (await nightly.last(session)).day == now.date()


def test_the_command_says_first_and_deletes_only_when_told(server_settings, tmp_path, server_cli):
    config = tmp_path / "server.yml"
    config.write_text(yaml.safe_dump(server_settings))
    said = CliRunner().invoke(cli, ["retention", "--config", str(config)])
    assert (said.exit_code, "--dry-run" in said.output) == (2, True)
    said = CliRunner().invoke(cli, ["retention", "--dry-run", "--rule", "none", "--config", str(config)])
    assert (said.exit_code, "no retention rule 'none'" in said.output) == (1, True)
    for how, applied in (("--dry-run", False), ("--apply", True)):
        said = CliRunner().invoke(cli, ["retention", how, "--json", "--config", str(config)])
        assert said.exit_code == 0, said.output
        assert json.loads(said.output)["applied"] is applied


async def test_a_whole_run_leaves_nothing_for_fsck(admin, services, settings, stored_ones, stored):
    await put(admin, "all", older_than_days=0, enabled=True)
    runs = await asyncio.gather(*(service.apply(services.db, settings, "retention") for _ in range(3)))
    assert sum(run.total.episodes for run in runs) == 6, "three at once delete each once"
    await asyncio.gather(*(files.remove_due(services.db, services.blobs) for _ in range(3)))
    assert stored("blobs") == []
    check = Fsck(settings, services.db, services.blobs, repair=False, deep=True, young_s=-60)
    assert [finding async for finding in check.findings(lambda _: None)] == []
