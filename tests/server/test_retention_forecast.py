"""What a dry run adds up in the database is what the rules say one by one, and what a run then deletes."""

import random
import uuid
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, event, insert, text

from lefleet_server.deletion.models import LegalHold
from lefleet_server.episodes.models import Episode
from lefleet_server.retention import service
from lefleet_server.retention.forecast import forecast
from lefleet_server.retention.report import EXAMPLES, Report
from lefleet_server.retention.rules import Candidate, Group, Plan, Rule, verdicts
from lefleet_server.robots.models import Robot

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OUTCOMES = ("success", "failure", "unknown")
ROBOTS = ("robot-1", "robot-2", "robot-3")


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"deleted_file_grace_s": 0})


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a sample, no secret


def drawn_rules(draw: random.Random) -> list[Rule]:
    made = []
    for number in range(draw.randint(0, 4)):
        age, quota = draw.choice([(True, False), (False, True), (False, True), (True, True)])
        made.append(
            Rule(
                f"rule-{number}",
                draw.choice([0, 7.5, 30, 60]) if age else None,
                draw.choice([0, 300, 2000, 5000, 9000]) if quota else None,
                frozenset(draw.sample(OUTCOMES, draw.randint(0, 2))),
                frozenset(draw.sample(ROBOTS, draw.randint(0, 2))),
                draw.choice([None, None, True, False]),
            )
        )
    return made


def drawn_episodes(draw: random.Random, most: int) -> list[Candidate]:
    """Some at the very same time; one in six is held, or all of a robot."""
    held_robot = draw.choice([None, None, *ROBOTS])
    found = []
    for _ in range(draw.randint(0, most)):
        robot, days = draw.choice(ROBOTS), draw.choice([0, 5, 20, 20, 40, 90])
        at = NOW - timedelta(days=days + draw.random() // 0.5)
        held = robot == held_robot or draw.random() < 1 / 6
        labelled, size = draw.random() < 0.5, draw.randint(1, 500)
        name = uuid.UUID(int=draw.getrandbits(128)).hex
        found.append(Candidate(name, robot, draw.choice(OUTCOMES), labelled, size, at, held))
    return sorted(found, key=lambda each: (each.received_at, each.id))


def row(it: Candidate) -> dict:
    outcomes = {"outcome": "unknown", "label_outcome": it.result} if it.labelled else {"outcome": it.result}
    return {
        "id": it.id,
        "robot_id": it.robot_id,
        "bytes": it.bytes,
        "received_at": it.received_at,
        "sha256": it.id * 2,
        "receipt_id": it.id,
        "started_at": it.received_at,
        "ended_at": it.received_at,
        "label_outcome": None,
        "duration_s": 1,
        "frames": 30,
        "frames_dropped": 0,
        "fps": 30,
        "hz_held": 30,
        "interrupted": False,
        "cameras": [],
        "meta": {},
        "image_index": {},
        **dict.fromkeys(("end_reason", "task", "policy_repo", "policy_commit", "policy_digest"), ""),
    } | outcomes


async def fill(session, episodes: list[Candidate]) -> None:
    known = set(await session.scalars(text("SELECT id FROM robots")))
    robots = [{"id": robot, "hw": "test", "agent_version": "0"} for robot in ROBOTS if robot not in known]
    if robots:
        await session.execute(insert(Robot), robots)
    if episodes:
        await session.execute(insert(Episode), [row(it) for it in episodes])
    held = [{"episode_id": it.id, "reason": "a court asks", "placed_by": "test"} for it in episodes if it.held]
    if held:
        await session.execute(insert(LegalHold), held)


def one_by_one(rules: list[Rule], episodes: list[Candidate]) -> Report:
    plan = Plan.of(rules, [Group(c.robot_id, c.result, c.labelled, c.bytes) for c in episodes], NOW)
    found = Report(applied=False)
    for it, rule in verdicts(plan, episodes):
        found.keep(it, rule) if it.held else found.add(it, rule)
    return found


async def test_the_database_adds_up_what_the_rules_say_one_by_one(services):
    several, kept, cut = 0, 0, 0
    for seed in range(250):
        draw = dice(seed)
        rules, episodes = drawn_rules(draw), drawn_episodes(draw, 700 if seed % 10 == 0 else 40)
        async with services.db.session() as session:  # rolled back
            await fill(session, episodes)
            found = await forecast(session, rules, NOW)
        expected = one_by_one(rules, episodes)
        assert found == expected, (seed, rules)
        several += len(found.rules) > 1
        kept += found.held.episodes > 0
        cut += found.total.episodes > len(found.examples) == EXAMPLES
    assert several > 30 and kept > 60 and cut > 5, "cases that a mistake would show in"


@pytest.mark.parametrize("seed", range(6))
async def test_a_run_deletes_exactly_what_the_dry_run_named(services, settings, seed):
    draw = dice(1000 + seed)
    rules = [*drawn_rules(draw), Rule("quota", None, 4000), Rule("unseen", 15, 500, labelled=False)]
    episodes = drawn_episodes(draw, 60)
    async with services.db.transaction() as session:
        await fill(session, episodes)
        for rule in rules:
            await service.put_rule(session, rule, True, "test")
    said = await service.plan(services.db, now=NOW)
    done = await service.apply(services.db, settings, "retention", now=NOW)
    assert asdict(said) | {"applied": True} == asdict(done)
    async with services.db.session() as session:
        left = set(await session.scalars(text("SELECT id FROM episodes")))
    assert {it.id for it in episodes} - left == {name for name, _ in said.examples}
    assert said.total.episodes == len(said.examples) > 0


async def test_a_dry_run_asks_and_reads_little_of_many_as_of_few(services):
    """What the process gets is counted: questions, and rows of their answers."""
    rules = [
        Rule("age", 30, labelled=False),
        Rule("quota", None, 20_000),
        Rule("robot", None, 900, robots=frozenset(ROBOTS[:1])),
    ]
    for size in (300, 6_000):
        draw = dice(size)
        episodes = [
            Candidate(uuid.UUID(int=draw.getrandbits(128)).hex, ROBOTS[n % 3], OUTCOMES[n % 3], n % 2 == 0, 10, at)
            for n in range(size)
            for at in [NOW - timedelta(days=40, minutes=n)]
        ]
        async with services.db.session() as session:
            await fill(session, episodes)
            rows, questions = 0, 0

            def count(_connection, cursor, *_):
                nonlocal rows, questions
                questions, rows = questions + 1, rows + max(cursor.rowcount, 0)

            engine = services.db.engine.sync_engine
            event.listen(engine, "after_cursor_execute", count)
            try:
                found = await forecast(session, rules, NOW)
            finally:
                event.remove(engine, "after_cursor_execute", count)
        assert found.total.episodes > size // 2 and len(found.examples) == EXAMPLES
        # Of all, and of three stretches: sums, an end, sums as far as that. Then the examples' rows, and few sums.
        assert questions <= 1 + 3 * 3 + 2 and rows <= EXAMPLES + 50


async def test_a_dry_run_without_rules_is_of_nothing(services):
    async with services.db.transaction() as session:
        await session.execute(delete(LegalHold))
    assert await service.plan(services.db) == Report(applied=False)
