"""The real courier renews its credential at the real server: no request is refused, whatever ends it at which step."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest

from lefleet_agent import credential
from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import Unauthorised
from lefleet_agent.courier.renewal import is_due
from lefleet_agent.wiring import build_courier
from lefleet_server.app import create_app
from lefleet_server.config import Settings

DAY_S = 86400.0
NEVER = {"renew_credential_s": None}

KILLED_BY_A_CALL = """
import os, runpy, signal, sys
event_wanted, path_wanted = sys.argv.pop(1), sys.argv.pop(1)
def hook(event, args):
    if event == event_wanted and str(args[0]) == path_wanted:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
sys.argv[0] = "lefleet-agent"
runpy.run_module("lefleet_agent", run_name="__main__")
"""
"""The real program, ended by SIGKILL just before a system call: https://docs.python.org/3/library/audit_events.html"""


class Watched:
    """The server's app, with what it answered robots written down; `before_answer` may end them first."""

    def __init__(self, app: Callable) -> None:
        self._app = app
        self.answers: list[tuple[str, str, int]] = []
        """Path, token and status of each request of a robot."""
        self.before_answer: Callable[[str, str], bool] = lambda path, token: False
        """Of path and token: whether the answer is to be lost."""

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        path = scope.get("path", "")
        if not path.startswith("/api/v1/robot/"):
            await self._app(scope, receive, send)
            return
        token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")

        async def passed(message: dict) -> None:
            if message["type"] == "http.response.start":
                self.answers.append((path, token, message["status"]))
                if self.before_answer(path, token):
                    await asyncio.sleep(0.2)
            await send(message)

        await self._app(scope, receive, passed)

    def refused(self) -> list[tuple[str, str, int]]:
        return [answer for answer in self.answers if answer[2] == 401]


@pytest.fixture
def watched(server_settings) -> Watched:
    return Watched(create_app(Settings(**server_settings), dashboard=False))


@pytest.fixture
def server(watched, server_settings, run_app) -> str:
    return run_app(watched, server_settings["port"])


def kept(side) -> credential.Credential:
    return credential.read(side.settings.state_dir, "robot-1")


def make_old(side) -> str:
    """Puts the credential's age back by a year; returns its token."""
    found = kept(side)
    credential.write(side.settings.state_dir, replace(found, issued_wall_s=found.issued_wall_s - 365 * DAY_S))
    return found.token


@contextmanager
def courier(side):
    stop = threading.Event()
    running = build_courier(side.settings, kept(side), stop)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def actions(server_cli) -> list[str]:
    return [json.loads(line)["action"] for line in server_cli("audit", "--json").splitlines()]


def test_a_running_courier_renews_again_and_again_and_no_request_is_refused(
    server, watched, enrolled, server_cli, wait_until
):
    side = enrolled(server, renew_credential_s=1)
    first = kept(side).token
    side.record()
    with courier(side) as running:
        tokens = {first}

        def renewed_three_times() -> bool:
            tokens.add(kept(side).token)
            return len(tokens) > 3

        wait_until(renewed_three_times)
        last = kept(side).token
        wait_until(lambda: any(token == last for _, token, _ in watched.answers))
        assert "lefleet_courier_retries_total{" not in running.exposition()
    # A request that was on its way with the old one while the new one was used first may be asked again, unseen.
    assert {status for path, _, status in watched.answers if path.endswith("heartbeat")} <= {200, 401}
    with pytest.raises(Unauthorised):
        ServerApi(server, first).receipt("0" * 64)
    path = side.settings.state_dir / "credential.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert side.spool.next_waiting() is None
    said = actions(server_cli)
    assert said.count("robot.credential-taken-over") >= 2
    assert said.count("robot.credential-renewed") - said.count("robot.credential-taken-over") <= 1


STEPS = {
    "it begins to write": ("open", "credential.json.part"),
    "it names the file": ("os.rename", "credential.json.part"),
    "it makes the name durable": ("open", ""),
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_before_a_step_it_goes_on_with_one_that_works(
    step, server, watched, enrolled, agent_command, server_cli, wait_until
):
    side = enrolled(server)
    old = make_old(side)
    event, name = STEPS[step]
    path = str(side.settings.state_dir / name).rstrip("/")
    command = [
        sys.executable,
        "-c",
        KILLED_BY_A_CALL,
        event,
        path,
        *agent_command("courier", "--config", side.config)[3:],
    ]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    assert [path for path, *_ in watched.answers].count("/api/v1/robot/credential") == 1
    renamed = kept(side).token != old
    assert renamed == (step == "it makes the name durable")
    goes_on(side, server, watched, wait_until, old)


def test_killed_between_the_servers_commit_and_the_answer_it_goes_on_with_the_old_one(
    server, watched, enrolled, agent_command, wait_until
):
    side = enrolled(server)
    old = make_old(side)
    killed_at(lambda path, token: path.endswith("/credential"), side, watched, agent_command)
    assert kept(side).token == old
    goes_on(side, server, watched, wait_until, old)


def test_killed_at_the_first_use_of_the_new_one_it_goes_on_with_that(
    server, watched, enrolled, agent_command, wait_until
):
    side = enrolled(server)
    old = make_old(side)
    killed_at(lambda path, token: token != old, side, watched, agent_command)
    assert kept(side).token != old
    goes_on(side, server, watched, wait_until, old)


def killed_at(when: Callable[[str, str], bool], side, watched, agent_command) -> None:
    process = subprocess.Popen(agent_command("courier", "--config", side.config))

    def kill(path: str, token: str) -> bool:
        if when(path, token):
            process.send_signal(signal.SIGKILL)
            return True
        return False

    watched.before_answer = kill
    assert process.wait(60) == -signal.SIGKILL
    watched.before_answer = lambda path, token: False


def goes_on(side, server, watched, wait_until, old: str) -> None:
    """A courier that starts now is let in at once, ends with a new credential, and the old one is void."""
    before = len(watched.answers)
    with courier(side):
        wait_until(lambda: any(path.endswith("heartbeat") for path, *_ in watched.answers[before:]))
        wait_until(lambda: kept(side).token != old)
        newest = kept(side).token
        wait_until(lambda: 200 in {status for _, token, status in watched.answers if token == newest})
    assert watched.answers[before][2] < 400, "the first request of the restarted one is let in"
    with pytest.raises(Unauthorised):
        ServerApi(server, old).receipt("0" * 64)
    assert [path.name for path in side.settings.state_dir.glob("credential*")] == ["credential.json"]


def test_a_disk_that_takes_no_file_costs_one_question_and_no_heartbeat(
    server, watched, enrolled, server_cli, wait_until
):
    side = enrolled(server)
    old = make_old(side)
    in_the_way = side.settings.state_dir / "credential.json.part"
    in_the_way.mkdir()
    told = side.settings.state_dir / "run" / "courier.json"
    with courier(side) as running:
        wait_until(lambda: 'lefleet_courier_retries_total{what="credential"} 3.0' in running.exposition())
        wait_until(lambda: "credential" in json.loads(told.read_text())["trouble"])
        assert kept(side).token == old and not watched.refused()
        in_the_way.rmdir()
        wait_until(lambda: kept(side).token != old)
        wait_until(lambda: "credential" not in json.loads(told.read_text())["trouble"])
    assert actions(server_cli).count("robot.credential-renewed") == 1


def test_a_robot_that_renewed_after_the_backup_gets_into_the_restored_server_and_renews(
    server, watched, enrolled, database_url, wait_until
):
    side = enrolled(server)
    old = make_old(side)
    with courier(side):
        wait_until(lambda: kept(side).token != old)
        lost = kept(side).token
        wait_until(lambda: 200 in {status for _, token, status in watched.answers if token == lost})
    asyncio.run(put_back(database_url, old))
    with courier(side):
        wait_until(lambda: kept(side).token not in (old, lost))
        newest = kept(side).token
        wait_until(lambda: 200 in {status for _, token, status in watched.answers if token == newest})


async def put_back(database_url: str, token: str) -> None:
    """What a backup from before the renewal has of this robot."""
    connection = await asyncpg.connect(database_url)
    digest = sha256(token.encode()).digest()
    await connection.execute("UPDATE robots SET token_hash = $1, next_token_hash = NULL", digest)
    await connection.close()


def test_an_enrolment_beside_a_running_courier_is_taken_up_and_never_written_over(
    server, watched, enrolled, server_cli, agent_command, wait_until
):
    side = enrolled(server, renew_credential_s=1)
    with courier(side):
        wait_until(lambda: any(path.endswith("heartbeat") for path, *_ in watched.answers))
        code = server_cli("enrol-code", "robot-1")
        subprocess.run(agent_command("enrol", "--config", side.config), input=code, text=True, check=True)
        enrolled_anew = kept(side).token
        wait_until(lambda: any(token == enrolled_anew and status < 400 for _, token, status in watched.answers))


def test_a_revoked_robot_gets_no_new_credential(server, watched, enrolled, server_cli, wait_until):
    side = enrolled(server, renew_credential_s=1)
    server_cli("revoke", "robot-1")
    before = kept(side)
    with courier(side):
        wait_until(lambda: len(watched.refused()) > 5)
    assert kept(side) == before
    assert {status for *_, status in watched.answers} == {401}


@pytest.mark.parametrize(
    ("issued", "due"),
    [
        (None, True),
        (1000 * DAY_S, False),
        (1000 * DAY_S - 29 * DAY_S, False),
        (1000 * DAY_S - 30 * DAY_S, True),
        (1000 * DAY_S + 3600, False),
        (1000 * DAY_S + 2 * DAY_S, True),
        (0.0, True),
    ],
)
def test_a_credential_is_due_by_its_age_and_when_its_age_cannot_be(issued, due):
    assert is_due(issued, 1000 * DAY_S, 30 * DAY_S) is due


def test_a_file_of_an_earlier_or_a_later_release_is_read(tmp_path: Path):
    path = tmp_path / "credential.json"
    path.write_text(json.dumps({"robot_id": "r", "server_url": "http://s", "token": "t", "later": 1}))
    assert credential.read(tmp_path, "r") == credential.Credential("r", "http://s", "t")
    for wrong in ("[]", "{}", '{"robot_id": "r", "server_url": "s", "token": 5}', "\x00"):
        path.write_text(wrong)
        with pytest.raises(credential.NotEnrolledError, match="enrol again"):
            credential.read(tmp_path, "r")
    assert os.access(path, os.R_OK)
