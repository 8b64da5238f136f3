"""What people at the server want, on its way to the files that control looks at, and back: stops, verdicts, orders."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import asyncpg
import httpx
import pytest

from lefleet_agent import credential
from lefleet_agent.control.operator import Operator
from lefleet_agent.episode import Outcome
from lefleet_agent.requests import drain, emergency_stop
from lefleet_agent.task import Task
from lefleet_agent.wiring import build_courier

ROBOT = "/api/v1/robots/robot-1"
STOP = f"{ROBOT}/estop"


class Server:
    """The server's own command, on the same port and database each time."""

    def __init__(self, config, port: int, wait_until: Callable) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "lefleet_server", "serve", "--config", str(config)]
        self._wait_until = wait_until
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        self._wait_until(self._is_ready, 90)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        assert self._process and self._process.poll() is None, "the server ended at its start"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=5).is_success
        return False


@pytest.fixture
def server(server_config, server_settings, wait_until) -> Iterator[Server]:
    made = Server(server_config, server_settings["port"], wait_until)
    made.start()
    yield made
    made.kill()


class Person:
    """An operator who presses and releases."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def press(self) -> int:
        return self._http.put(STOP).raise_for_status().json()["number"]

    def release(self) -> None:
        self._http.delete(STOP, params={"number": self.sees()["number"]}).raise_for_status()

    def judge(self, episode_id: str, word: str) -> httpx.Response:
        return self._http.put("/api/v1/robots/robot-1/verdict", json={"episode_id": episode_id, "word": word})

    def orders(self, **what: object) -> None:
        """`rest=True`, `task="sort"`, `reboot="why"`."""
        for kind, value in what.items():
            if kind == "rest":
                done = self._http.request("PUT" if value else "DELETE", f"{ROBOT}/rest")
            elif kind == "reboot":
                done = self._http.post(f"{ROBOT}/reboot", json={"reason": value})
            else:
                done = self._http.put(f"{ROBOT}/task", json={"text": value})
            done.raise_for_status()

    def sees_of(self, what: str) -> dict:
        return self._http.get(ROBOT).raise_for_status().json()[what]

    def sees(self) -> dict:
        return self._http.get("/api/v1/robots/robot-1").raise_for_status().json()["estop"]


@pytest.fixture
def person(server, server_cli) -> Iterator[Person]:
    server_cli("users", "add", "ada", "--role", "operator")
    code = server_cli("login-link", "--user", "ada").split("code=")[1].strip()
    with httpx.Client(base_url=server.url, timeout=30) as http:
        http.post("/api/v1/login", json={"code": code}).raise_for_status()
        yield Person(http)


@contextmanager
def courier(side) -> Iterator[None]:
    stop = threading.Event()
    work = build_courier(side.settings, credential.read(side.settings.state_dir, "robot-1"), stop)
    thread = threading.Thread(target=work.run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def asked_by(side) -> list[str]:
    return emergency_stop(side.settings.state_dir).asked_by()


def control_says(side, state: str, **more: object) -> None:
    """What the recorder writes for control once a second."""
    run = side.settings.state_dir / "run"
    run.mkdir(exist_ok=True)
    (run / "control.json").write_text(json.dumps({"state": state} | more))


def test_a_press_becomes_a_file_that_outlives_the_courier_until_the_release(server, enrolled, person, wait_until):
    side = enrolled(server.url)

    def seen(state: str, arm: str) -> bool:
        control_says(side, arm)
        return person.sees()["state"] == state

    with courier(side):
        wait_until(lambda: seen("free", "running"))
        person.press()
        wait_until(lambda: asked_by(side) == ["dashboard"])
        wait_until(lambda: seen("stopped", "estopped"))
        assert person.sees()["asked_by"] == "user:ada"
    assert asked_by(side) == ["dashboard"]
    with courier(side):
        emergency_stop(side.settings.state_dir).request("operator")
        person.release()
        wait_until(lambda: asked_by(side) == ["operator"])
        wait_until(lambda: seen("free", "estopped"))


def test_a_stop_asked_for_while_the_robot_was_away_waits_for_it(server, enrolled, person, wait_until):
    side = enrolled(server.url)
    person.press()
    with courier(side):
        wait_until(lambda: asked_by(side) == ["dashboard"])


def test_a_server_that_is_killed_takes_no_stop_back_and_remembers_it(server, enrolled, person, wait_until):
    side = enrolled(server.url)
    with courier(side):
        person.press()
        wait_until(lambda: asked_by(side) == ["dashboard"])
        server.kill()
        wait_until(lambda: "wishes" in trouble(side))
        assert asked_by(side) == ["dashboard"]
    with courier(side):
        wait_until(lambda: "wishes" in trouble(side))
        assert asked_by(side) == ["dashboard"]
        server.start()
        wait_until(lambda: "wishes" not in trouble(side))
        assert asked_by(side) == ["dashboard"] and person.sees()["number"] > 0
        person.release()
        wait_until(lambda: asked_by(side) == [])


def trouble(side) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError):
        return json.loads((side.settings.state_dir / "run" / "courier.json").read_text())["trouble"]
    return {}


def test_what_was_cleared_at_the_robot_stays_cleared_until_somebody_presses_again(
    server, enrolled, person, agent_command, wait_until
):
    side = enrolled(server.url)
    with courier(side):
        first = person.press()
        wait_until(lambda: asked_by(side) == ["dashboard"])
        clear = agent_command("estop", "--clear", "--by", "all", "--config", side.config)
        subprocess.run(clear, check=True)
        wait_until(lambda: person.sees()["state"] == "free")
        assert person.sees()["number"] == first, "the wish is as it was, and void"
    with courier(side):
        wait_until(lambda: "wishes" not in trouble(side) and person.sees()["state"] == "free")
        assert asked_by(side) == []
        assert person.press() > first
        wait_until(lambda: asked_by(side) == ["dashboard"])


def test_a_server_restored_from_before_the_stop_releases_nothing_until_it_is_told_to(
    server, enrolled, person, database_url, wait_until
):
    side = enrolled(server.url)
    with courier(side):
        person.press()
        wait_until(lambda: asked_by(side) == ["dashboard"])
        person.release()
        wait_until(lambda: asked_by(side) == [])
        backup = person.sees()["number"]
        person.press()
        wait_until(lambda: asked_by(side) == ["dashboard"])
        asyncio.run(restore(database_url, backup))
        wait_until(lambda: person.sees()["state"] == "stopped")
        assert asked_by(side) == ["dashboard"]
        person.release()
        wait_until(lambda: asked_by(side) == [])


async def restore(database_url: str, number: int) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE robot_stops SET number = $1, wanted = false", number)
    await connection.close()


def test_an_episode_ends_as_a_person_at_the_server_says_and_no_other_does(server, enrolled, person, wait_until):
    side = enrolled(server.url)
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    state_dir = side.settings.state_dir
    control = Operator(emergency_stop(state_dir), state_dir / "run", threading.Event())
    ended = []

    def ends() -> bool:
        ended.extend(filter(None, [control.wants()]))
        return bool(ended)

    def judged(episode_id: str, word: str) -> bool:
        control_says(side, "running", episode_id=episode_id)
        return person.judge(episode_id, word).is_success

    with courier(side):
        control.watch(first)
        wait_until(lambda: judged(first, "failure"))
        wait_until(ends)
        assert (ended[0].outcome, ended[0].interrupted) == (Outcome.FAILURE, False) and "ada" in ended[0].reason
        control.watch(second)
        wait_until(lambda: judged(second, "success"))
        control.watch(uuid.uuid4().hex)  # the episode ended by itself while the word was on its way
        word = state_dir / "run" / "verdict"
        wait_until(word.exists)
        assert control.wants() is None and not word.exists()
        refused = person.judge(first, "success")
        assert refused.status_code == 409


def test_rest_and_a_task_reach_the_robot_and_the_server_hears_that_they_did(server, enrolled, person, wait_until):
    side = enrolled(server.url)
    task, rests = Task(side.settings.state_dir, "stack"), drain(side.settings.state_dir).asked_by
    with courier(side):
        control_says(side, "running")
        person.orders(rest=True, task="sort the bolts")
        wait_until(lambda: rests() == ["dashboard"] and task() == "sort the bolts")
        wait_until(lambda: person.sees_of("rest")["heard"] and person.sees_of("task")["heard"])
        assert person.sees_of("rest")["wanted"]
    person.orders(rest=False, task=None)
    assert rests() == ["dashboard"], "it is away"
    with courier(side):
        wait_until(lambda: rests() == [] and task() == "stack")
        wait_until(lambda: person.sees_of("rest")["heard"])
        assert not person.sees_of("rest")["wanted"]


def test_a_rest_that_was_ended_at_the_robot_is_told(server, enrolled, person, agent_command, wait_until):
    side = enrolled(server.url)
    with courier(side):
        person.orders(rest=True)
        wait_until(lambda: person.sees_of("rest")["heard"])
        resume = agent_command("resume", "--by", "all", "--config", side.config)
        subprocess.run(resume, check=True)
        wait_until(lambda: not person.sees_of("rest")["wanted"])
    with courier(side):
        assert drain(side.settings.state_dir).asked_by() == []


def test_a_reboot_reaches_the_host_once_and_the_server_hears_that_it_did(server, enrolled, person, wait_until):
    side = enrolled(server.url)
    side = replace(side, settings=side.settings.model_copy(update={"host_reboots": True}))
    file = side.settings.state_dir / "run" / "reboot"

    def ordered() -> bool:
        try:
            person.orders(reboot="the GPU hangs")
        except httpx.HTTPStatusError as refused:
            assert refused.response.status_code == 409, "it was not heard of yet"
            return False
        return True

    with courier(side):
        control_says(side, "running")
        wait_until(ordered)
        wait_until(file.exists)
        wait_until(lambda: person.sees_of("reboot")["state"] == "heard")
        file.unlink()  # as the host does
    with courier(side):  # which it stops, and starts again
        wait_until(lambda: "wishes" not in trouble(side))
        person.orders(rest=True)
        wait_until(lambda: drain(side.settings.state_dir).asked_by() == ["dashboard"])
        assert not file.exists()
