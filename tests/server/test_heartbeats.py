"""Heartbeats of many robots at once, stored together; and the short way that those of known robots take."""

import asyncio
import random
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import undefer

from lefleet_server.accounts.models import Role
from lefleet_server.app import create_app
from lefleet_server.robots import beats, exposition, service
from lefleet_server.robots.beats import Said
from lefleet_server.robots.models import RobotStatus
from lefleet_server.secret import digest

BEAT = "/api/v1/robot/heartbeat"
METRICS = (
    "# HELP lefleet_x What it is, told with a \\\\ and a \\n.\n# TYPE lefleet_x gauge\n"
    'lefleet_x{joint="a b",le="+Inf"} 4e+07\nlefleet_x{joint="quo\\"te"} NaN\n\n'
    "# TYPE python_y counter\npython_y_total 3 1780000000\npython_z -0.5\n"
)


SAID = Said("running", None, "{}", "")


@pytest.fixture
def statements(services):
    """Those that store heartbeats."""
    found = []

    @event.listens_for(services.db.engine.sync_engine, "before_cursor_execute")
    def note(connection, cursor, statement, *rest):
        if "INSERT INTO robot_status" in statement:
            found.append(statement)

    return found


@pytest.fixture
async def many(enrol):
    robots = [await enrol(f"robot-{number}") for number in range(12)]
    for robot in robots:  # from now on they are known
        assert (await robot.heartbeat()).status_code == 200
    yield robots
    for robot in robots:
        await robot.http.aclose()


async def tasks(services) -> dict[str, str]:
    async with services.db.session() as session:
        return {row.robot_id: row.heartbeat["task"] for row in await session.scalars(select(RobotStatus))}


async def test_heartbeats_that_come_together_are_stored_together_each_as_its_own_robots(many, services, statements):
    answers = await asyncio.gather(*(robot.heartbeat(task=f"of {robot.id}") for robot in many))
    assert [answer.status_code for answer in answers] == [200] * len(many)
    assert len(statements) < len(many)
    assert await tasks(services) == {robot.id: f"of {robot.id}" for robot in many}


async def test_while_many_come_those_that_follow_are_stored_together(many, services, statements, monkeypatch):
    monkeypatch.setattr(beats, "GAP_S", 1.0)
    await asyncio.gather(*(robot.heartbeat() for robot in many))
    statements.clear()
    coming = []
    for robot in many:
        coming.append(asyncio.create_task(robot.heartbeat(task=f"of {robot.id}")))
        await asyncio.sleep(0.01)
    assert [answer.status_code for answer in await asyncio.gather(*coming)] == [200] * len(many)
    assert len(statements) <= 3
    assert await tasks(services) == {robot.id: f"of {robot.id}" for robot in many}


async def test_one_that_comes_alone_waits_for_nobody(many, services, statements, monkeypatch):
    monkeypatch.setattr(beats, "GAP_S", 600.0)
    for robot in many:
        assert (await robot.heartbeat()).status_code == 200
    assert len(statements) == len(many)


async def test_of_two_at_once_of_one_robot_one_counts_and_both_are_answered(many, services):
    robot = many[0]
    answers = await asyncio.gather(*(robot.heartbeat(task=str(number)) for number in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert (await tasks(services))[robot.id] in {str(number) for number in range(6)}


async def test_a_robot_that_another_process_revoked_is_refused_at_once(many, settings, statements):
    other = create_app(settings, dashboard=False).state.services
    async with other.db.transaction() as session:
        await service.revoke(session, many[0].id, "test")
    await other.db.close()
    answers = await asyncio.gather(*(robot.heartbeat() for robot in many))
    assert [answer.status_code for answer in answers] == [401] + [200] * (len(many) - 1)
    assert (await many[0].heartbeat()).status_code == 401


async def test_a_renewed_credential_ends_the_one_that_was_known(robot, connect):
    assert (await robot.heartbeat()).status_code == 200
    token = (await robot.http.post("/api/v1/robot/credential")).json()["token"]
    async with connect(headers={"Authorization": f"Bearer {token}"}) as new:
        for client, status in ((robot.http, 200), (new, 200), (robot.http, 401), (new, 200)):
            assert (await client.post(BEAT, json={"state": "running"})).status_code == status


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("change", "field"),
    [({"state": "a b"}, "state"), ({"loop": {"hz": "x"}}, "loop.hz"), ({"metrics": "# a \0"}, "metrics")],
)
async def test_a_wrong_one_is_told_the_same_whichever_way_it_goes(robot, known, change, field):
    if known:
        await robot.heartbeat()
    answer = await robot.heartbeat(**change)
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json()["errors"]]


async def test_both_ways_give_the_same_answer_and_store_the_same(robot, services):
    beat = {"state": "running", "task": "lift", "metrics": METRICS, "loop": None, "new": {"field": 1}}
    seen = []
    for _ in range(2):
        answer = await robot.http.post(BEAT, json=beat)
        async with services.db.session() as session:
            row = await session.get(RobotStatus, robot.id, options=[undefer(RobotStatus.metrics)])
        headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
        told = {name: value for name, value in answer.json().items() if name != "server_wall_ns"}
        length = headers.pop("content-length")
        assert int(length) == len(answer.content)
        seen.append((answer.status_code, headers, told, row.state, row.heartbeat, row.metrics))
    assert seen[0] == seen[1]
    counted = b'lefleet_http_request_seconds_count{code="200",route="/api/v1/robot/heartbeat"} 2.0'
    assert counted in services.metrics.render()


async def test_a_known_robots_body_may_come_in_pieces(robot, app, monkeypatch):
    async def pieces():
        yield b'{"state": '
        yield b'"running"}'

    async def never(scope, receive, send):
        raise AssertionError("the short way takes it: on a network most come in pieces")

    await robot.heartbeat()
    monkeypatch.setattr(app.way_in, "_app", never)
    json = {"Content-Type": "application/json"}
    assert (await robot.http.post(BEAT, content=pieces(), headers=json)).status_code == 200


async def test_a_known_robots_body_is_limited_as_any(robot):
    await robot.heartbeat()
    json = {"Content-Type": "application/json"}
    for body, status in ((b" " * (3 << 20), 413), (b"[" * 100_000, 400), (b"", 422), (b"{", 422)):
        assert (await robot.http.post(BEAT, content=body, headers=json)).status_code == status


async def test_what_postgresql_does_not_take_keeps_no_other_robots_from_being_stored(many, services):
    bad = Said("running", None, '{"task": "nul \\u0000"}', "")
    good = [Said("running", None, f'{{"task": "of {robot.id}"}}', "") for robot in many[1:]]
    stored = await asyncio.gather(
        *(services.beats.store(digest(robot.token), said) for robot, said in zip(many, [bad, *good], strict=True)),
        return_exceptions=True,
    )
    assert isinstance(stored[0], DBAPIError)
    assert stored[1:] == [robot.id for robot in many[1:]]
    assert (await tasks(services))[many[-1].id] == f"of {many[-1].id}"


async def test_connections_that_the_database_closed_cost_no_heartbeat(many, services):
    closed = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
                  "AND pid <> pg_backend_pid() AND backend_type = 'client backend'")  # fmt: skip
    async with services.db.session() as one:
        await asyncio.gather(*(services.beats.store(digest(robot.token), SAID) for robot in many))
        assert (await one.execute(closed)).scalar_one() >= 1
    await asyncio.sleep(0.2)  # until the sockets' ends are seen
    answers = await asyncio.gather(*(robot.heartbeat() for robot in many))
    assert [answer.status_code for answer in answers] == [200] * len(many)


async def test_a_server_that_starts_knows_the_fleet_before_it_speaks(many, settings):
    app = create_app(settings, dashboard=False)
    known = app.state.services.beats
    async with app.router.lifespan_context(app), asyncio.timeout(30):
        while not all(known.knows(digest(robot.token)) for robot in many):  # noqa: ASYNC110 - it asks the database
            await asyncio.sleep(0.05)
    assert not known.knows(digest("lfr_nobody"))


async def test_nobodys_credential_is_refused_before_its_body_is_looked_at(connect, person):
    token = {"Authorization": "Bearer lfr_nobody"}
    async with connect(headers=token) as nobody:
        assert (await nobody.post(BEAT, json={"state": "a b"})).status_code == 401
    viewer = await person(Role.VIEWER)
    assert (await viewer.post(BEAT, json={"state": "running"})).status_code == 401


async def test_no_text_is_known_that_the_parser_refuses():
    """Lines of a good text, cut, doubled, mixed and with other numbers."""
    rng = random.Random(3)  # noqa: S311 - mutants, not secrets
    known = exposition.Lines()
    assert await known.readable(METRICS) == (METRICS, 0)
    assert known.knows(METRICS)
    lines, taken = METRICS.split("\n"), 0
    for _ in range(3000):
        mutant = [rng.choice(lines) for _ in range(rng.randint(1, 8))]
        at = rng.randrange(len(mutant))
        cut = rng.randrange(len(mutant[at]) + 1)
        tail = rng.choice(["", " 1", "1_0", " \u0661", "\t5", " nan", "5 ", ".5", "e3", '"', "}", "\r"])
        mutant[at] = mutant[at][:cut] + tail
        if known.knows("\n".join(mutant)):
            taken += 1
            list(text_string_to_metric_families("\n".join(mutant)))
    assert taken > 100


async def test_what_cannot_be_read_is_left_out_and_counted_and_the_rest_is_one_that_the_parser_takes():
    """Whatever was remembered of the texts before."""
    rng = random.Random(4)  # noqa: S311 - mutants, not secrets
    known, lines, left = exposition.Lines(), METRICS.split("\n"), 0
    for _ in range(1000):
        mutant = [rng.choice(lines) for _ in range(rng.randint(1, 8))]
        at = rng.randrange(len(mutant))
        cut = rng.randrange(len(mutant[at]) + 1)
        mutant[at] = mutant[at][:cut] + rng.choice(["{", " x", '"', " 1 2 3 ", "foreign 1", "\t5", " 5", "_", ""])
        whole = [line for line in mutant if exposition.is_readable(line)]
        assert await known.readable("\n".join(mutant)) == ("\n".join(whole), len(mutant) - len(whole))
        list(text_string_to_metric_families("\n".join(whole)))
        left += len(mutant) - len(whole)
    assert 100 < left < 1000


@pytest.mark.parametrize(
    "line",
    ["lefleet_x", "lefleet_x{ 1", "up 1", "# TYPE up gauge", "lefleet_x 1,5", f"lefleet_x 1 {'9' * 400}",
     "lefleet_a{" + "=," * 2100 + "} 1", "# " + " " * 4200 + "x", "x" * 4097],
)  # fmt: skip
async def test_a_line_that_prometheus_cannot_read_hides_no_other_and_makes_no_robot_one_that_is_not_heard(
    robot, anonymous, line
):
    for _ in range(2):
        assert (await robot.heartbeat(metrics=f"lefleet_before 1\n{line}\nlefleet_after 2\n")).status_code == 200
        scrape = await anonymous.get(f"/api/v1/metrics/robot?robot={robot.id}")
        found = {each.name: each.samples[0].value for each in text_string_to_metric_families(scrape.text)}
        assert (found.pop("lefleet_before"), found.pop("lefleet_after")) == (1, 2)
        assert found.pop("lefleet_robot_unreadable_lines") == 1
        assert set(found) == {"lefleet_robot_heartbeat_age_seconds"}


async def test_what_is_remembered_of_metrics_is_bounded():
    known = exposition.Lines(most_lines=50)
    for number in range(100):
        await known.readable(f"lefleet_x_{number} 1\n")
    assert len(known._samples) + len(known._comments) <= 50


async def test_long_lines_are_remembered_as_far_as_memory_is_left():
    known = exposition.Lines(most_bytes=100_000)
    kept = []
    for number in range(100):
        metrics = f'lefleet_x{{a="{number:04000}"}} 1\n'
        await known.readable(metrics)
        assert known.knows(metrics)
        kept.append(sum(map(sys.getsizeof, known._samples)))
    assert 90_000 < max(kept) <= 100_000
    await known.readable("lefleet_y 1\n" + "".join(f'lefleet_x{{a="{number:04000}"}} 1\n' for number in range(50)))
    assert not known._samples, "one that leaves no room for others is not remembered"


def test_a_line_of_metrics_may_be_as_long_as_its_limit():
    label = "x" * (4096 - len('lefleet_x{a=""} 1'))
    assert exposition.is_readable(f'lefleet_x{{a="{label}"}} 1')
    assert not exposition.is_readable(f'lefleet_x{{a="{label}x"}} 1')


async def test_a_known_robots_new_field_takes_the_ordinary_way_and_is_ignored(robot, services):
    for part in ({"new": 1}, {"disk": {"free_bytes": 1, "total_bytes": 2, "new": [1]}}):
        for _ in range(2):
            assert (await robot.heartbeat(**part)).status_code == 200
        async with services.db.session() as session:
            stored = (await session.get(RobotStatus, robot.id)).heartbeat
        assert "new" not in stored and "new" not in (stored["disk"] or {})


async def test_what_an_agent_says_of_its_trouble_makes_no_robot_one_that_is_not_heard(robot, services):
    trouble = {f"{number} {'x' * 400}": "why \0" * 1000 for number in range(40)}
    for _ in range(2):
        assert (await robot.heartbeat(courier={"clock_offset_s": -2.5, "trouble": trouble})).status_code == 200
    async with services.db.session() as session:
        stored = (await session.get(RobotStatus, robot.id)).heartbeat["courier"]
    assert stored["clock_offset_s"] == -2.5 and len(stored["trouble"]) == 16
    assert {len(word) for pair in stored["trouble"].items() for word in pair} == {300}


@pytest.mark.parametrize("depth", [33, 150, 1000, 100_000])
@pytest.mark.parametrize("bracket", [b"{", b"\\u007b"], ids=["as it is", "escaped"])
async def test_a_known_robots_json_may_be_no_deeper_than_any(robot, depth, bracket):
    await robot.heartbeat(metrics="# " + "{" * 500)
    metrics = b'"# ' + bracket * 500 + b'"'
    body = b'{"state": "running", "metrics": ' + metrics + b', "new": ' + b"[" * depth + b"]" * depth + b"}"
    json = {"Content-Type": "application/json"}
    answer = await robot.http.post(BEAT, content=body, headers=json)
    assert answer.status_code == 400 and "deeper than 32" in answer.json()["detail"]
