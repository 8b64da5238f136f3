"""Alerts of a real Prometheus: with the robots that they name, and what is said when it does not answer."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest

from lefleet_server import alerts
from lefleet_server.alerts import Alerts
from lefleet_server.config import ConfigError, load
from lefleet_server.dashboard.fleet_feed import FleetFeed


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def firing(prometheus, tmp_path_factory):
    """A Prometheus that alerts about robot-1 twice, about robot-2, and about no robot; one more is only pending."""
    fires = prometheus.fires
    pending = fires("Later", robot_id="robot-1") | {"for": "1h"}
    with prometheus.running(
        tmp_path_factory.mktemp("prometheus"),
        fires("MotorHot", 'label_replace(vector(1), "joint", "elbow", "", "")',
              "{{ $labels.joint }}\n at {{ $value }} °C", robot_id="robot-1", severity="critical"),
        fires("Drift", robot_id="robot-1", severity="warning"),
        fires("RobotOffline", robot_id="robot-2"),
        fires("JobsDead", summary="3 jobs", severity="warning"),
        pending,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture
async def asked() -> Callable:
    made = []

    def make(url: str | None, clock: Callable[[], float] = Clock()) -> Alerts:  # noqa: B008 - stands still
        made.append(Alerts(url, clock))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_alerts_that_fire_are_found_with_their_robots(firing, asked):
    found = await asked(firing.url + "/").firing()
    assert found.known
    told = [(each.name, each.severity, each.summary) for each in found.of("robot-1")]
    assert told == [("Drift", "warning", ""), ("MotorHot", "critical", "elbow at 1 °C")]
    assert [each.name for each in found.of("robot-2")] == ["RobotOffline"]
    assert [(each.name, each.summary) for each in found.others] == [("JobsDead", "3 jobs")]
    assert found.of("robot-3") == ()


async def test_who_names_no_prometheus_asks_nobody(asked):
    found = await asked(None).firing()
    assert not found.known and found.unknown_since is None


async def test_one_that_ends_is_said_to_be_unknown_since_it_was_heard_last(prometheus, tmp_path, asked):
    clock = Clock()
    with prometheus.running(tmp_path / "prometheus", prometheus.fires("Hot", robot_id="robot-1")) as running:
        source = asked(running.url, clock)
        first = await source.firing()
        assert [each.name for each in first.of("robot-1")] == ["Hot"]
        running.stop()
        clock.now_s += alerts.FRESH_S - 1
        assert await source.firing() is first, "it is asked for all viewers together"
        clock.now_s += alerts.STALE_S
        gone = await source.firing()
        assert not gone.known and gone.unknown_since is not None and gone.of("robot-1") == ()
        clock.now_s += alerts.STALE_S
        assert (await source.firing()).unknown_since == gone.unknown_since
        running.start()
        clock.now_s += alerts.STALE_S
        assert (await source.firing()).known


async def test_only_the_first_viewer_waits_and_all_share_one_question(asked):
    async with stand_in(b"", hangs=True) as (url, questions):
        clock = Clock()
        source = asked(url, clock)
        looks = [asyncio.create_task(source.firing()) for _ in range(20)]
        assert len({id(each) for each in await asyncio.gather(*looks)}) == 1
        assert len(questions) == 1
        clock.now_s += alerts.FRESH_S
        found = await asyncio.wait_for(source.firing(), alerts.TIMEOUT_S / 3)  # the next question is under way
        assert found.unknown_since is not None


BAD = {
    "no JSON": b"HTTP/1.1 200 OK\r\n\r\n<html>log in</html>",
    "an error": b'HTTP/1.1 500 Oh\r\n\r\n{"status":"error"}',
    "elsewhere": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
    "other words": b'HTTP/1.1 200 OK\r\n\r\n{"status":"success","data":{"alerts":[{"state":"firing"}]}}',
    "no end": b'HTTP/1.1 200 OK\r\n\r\n{"status":"success","data":{"alerts":[' + b" " * (alerts.MOST_BYTES + 1),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_whatever_else_answers_is_unknown_and_no_error(asked, answer):
    async with stand_in(answer) as (url, _):
        found = await asked(url).firing()
    assert found.unknown_since is not None and not found.known


@asynccontextmanager
async def stand_in(answer: bytes, *, hangs: bool = False):
    """Something at an address that answers each question so; and the questions."""
    questions: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        questions.append(await reader.readline())
        if hangs:
            await reader.read()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", questions
    finally:
        server.close()


class TestServer:
    """The API and the fleet's feed of a server whose settings name a Prometheus."""

    @pytest.fixture
    def server_settings(self, server_settings, firing):
        return server_settings | {"prometheus_url": firing.url}

    async def test_the_api_answers_with_each_robots_alerts(self, robot, enrol, operator):
        silent = await enrol("robot-3")
        await robot.heartbeat()
        found = {each["id"]: each for each in (await operator.get("/api/v1/robots")).json()["items"]}
        assert [each["name"] for each in found["robot-1"]["alerts"]] == ["Drift", "MotorHot"]
        assert found["robot-1"]["alerts"][1] == (await operator.get("/api/v1/robots/robot-1")).json()["alerts"][1]
        assert found["robot-1"]["alerts"][1]["severity"] == "critical"
        assert found["robot-3"]["alerts"] == [] and found["robot-3"]["alerts_unknown_since"] is None
        await silent.http.aclose()

    async def test_the_feed_judges_by_them(self, services, robot):
        await robot.heartbeat()
        fleet = await FleetFeed(services).fleet()
        told = [each.text for each in fleet.robots["robot-1"].issues]
        assert told == ["Alert MotorHot: elbow at 1 °C", "Alert Drift"]
        assert fleet.robots["robot-1"].health == "bad"
        assert [each.name for each in fleet.firing.others] == ["JobsDead"]


class TestServerWithoutIt:
    @pytest.fixture
    def server_settings(self, server_settings, free_port):
        return server_settings | {"prometheus_url": f"http://127.0.0.1:{free_port()}"}

    async def test_alerts_that_are_unknown_are_said_to_be(self, services, robot, operator):
        await robot.heartbeat()
        found = (await operator.get("/api/v1/robots/robot-1")).json()
        assert found["alerts"] is None and found["alerts_unknown_since"] is not None
        fleet = await FleetFeed(services).fleet()
        assert fleet.robots["robot-1"].health == "good" and fleet.firing.unknown_since is not None


async def test_without_a_prometheus_nothing_is_said_of_alerts(robot, operator):
    await robot.heartbeat()
    found = (await operator.get("/api/v1/robots/robot-1")).json()
    assert found["alerts"] is found["alerts_unknown_since"] is None


@pytest.mark.parametrize("url", ["127.0.0.1:9090", "http://", "http://ada:secret@host", "http://host/?x=1", "ftp://h"])
def test_an_address_that_cannot_be_asked_is_refused(tmp_path, url):
    (tmp_path / "server.yml").write_text(f"state_dir: s\nprometheus_url: {url}\n")
    with pytest.raises(ConfigError, match="prometheus_url"):
        load(tmp_path / "server.yml", {})
