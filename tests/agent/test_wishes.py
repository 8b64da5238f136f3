"""Wishes of people that come through the server: what is obeyed, what is passed on, what never lets an arm go on."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import Retryable, ServerError
from lefleet_agent.courier.heartbeat import Report
from lefleet_agent.courier.wishes import Levers, Wishes
from lefleet_agent.obeyed import ESTOP, REBOOT, REST, TASK, Obeyed
from lefleet_agent.requests import Requests, drain, emergency_stop
from lefleet_agent.spool import Spool
from lefleet_agent.task import Task
from lefleet_agent.verdict import VERDICT, Verdict, Word, read


class Answering(ThreadingHTTPServer):
    """Gives every question the same answer, at once."""

    answer: tuple[int, bytes] = 200, b""
    asked = ""

    def say(self, number: object, wanted: object, **more: object) -> None:
        self.answer = 200, json.dumps({"estop": {"number": number, "wanted": wanted}} | more).encode()


class _Request(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        self.server.asked = self.path
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on the tests' output."""


@pytest.fixture
def server() -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), _Request) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def wishes(server, tmp_path) -> Wishes:
    return ask(server, tmp_path)


def ask(server, tmp_path, reboot: Path | None = None) -> Wishes:
    """`reboot`: the file that its host looks for."""
    api = ServerApi(f"http://127.0.0.1:{server.server_address[1]}", "lfr_x")
    levers = Levers(emergency_stop(tmp_path), drain(tmp_path), Task(tmp_path, "stack"), tmp_path / "run", reboot)
    return Wishes(api, levers, Obeyed(tmp_path), 10)


def test_a_stop_is_obeyed_and_only_a_newer_release_ends_it(server, wishes, tmp_path):
    asked = emergency_stop(tmp_path).asked_by
    server.say(5, True)
    assert wishes() == 0 and wishes.settling
    assert asked() == ["dashboard"]
    for number in (0, 4, 5):
        server.say(number, False)
        wishes()
        assert asked() == ["dashboard"], f"a release {number} is not newer than the stop 5"
    server.say(6, False)
    wishes()
    assert asked() == [] and Obeyed(tmp_path).numbers()[ESTOP] == 6


def test_what_was_cleared_here_does_not_come_back_with_the_next_answer_or_start(server, wishes, tmp_path):
    server.say(5, True)
    wishes()
    emergency_stop(tmp_path).withdraw("dashboard")
    wishes()
    ask(server, tmp_path)()
    assert emergency_stop(tmp_path).asked_by() == []
    server.say(6, True)
    wishes()
    assert emergency_stop(tmp_path).asked_by() == ["dashboard"]


@pytest.mark.parametrize(
    "answer",
    [
        (200, b""),
        (200, b"<html>log in</html>"),
        (200, b"[]"),
        (200, b'{"estop": null}'),
        (200, b'{"estop": {"number": 9}}'),
        (200, b'{"estop": {"number": true, "wanted": false}}'),
        (200, b'{"estop": {"number": 9, "wanted": 0}}'),
        (200, b'{"estop": {"number": 9.5, "wanted": false}}'),
        (200, b'{"estop": {"number": 9007199254740992, "wanted": false}}'),
        (302, b""),
        (401, b"{}"),
        (500, b'{"estop": {"number": 9, "wanted": false}}'),
    ],
)
def test_a_strange_answer_releases_nothing(server, wishes, tmp_path, answer):
    server.say(5, True)
    wishes()
    server.answer = answer
    with pytest.raises(ServerError):
        wishes()
    assert emergency_stop(tmp_path).asked_by() == ["dashboard"] and Obeyed(tmp_path).numbers()[ESTOP] == 5


def test_an_older_server_is_no_trouble_and_is_asked_seldom_and_releases_nothing(server, wishes, tmp_path, capsys):
    server.say(5, True)
    wishes()
    server.answer = 404, b"{}"
    assert wishes() == wishes() == 60
    assert capsys.readouterr().out.count("knows no wishes") == 1
    assert emergency_stop(tmp_path).asked_by() == ["dashboard"]
    server.say(6, False)
    wishes()
    assert emergency_stop(tmp_path).asked_by() == []


def test_a_server_that_is_gone_releases_nothing(wishes, server, tmp_path):
    server.say(5, True)
    wishes()
    server.shutdown()
    server.server_close()
    with pytest.raises(Retryable):
        wishes()
    assert emergency_stop(tmp_path).asked_by() == ["dashboard"]


def test_a_server_that_answers_at_once_without_news_is_not_hammered(server, wishes):
    server.say(0, False)
    assert wishes() > 1


@pytest.mark.parametrize("spoilt", [b"", b"\xff", b"{}", b"[1]", b'{"estop": "x"}'])
def test_a_memory_that_is_lost_takes_a_stop_and_no_release(server, tmp_path, spoilt):
    emergency_stop(tmp_path).request("dashboard")
    (tmp_path / "wishes.json").write_bytes(spoilt)
    server.say(6, False)
    wishes = ask(server, tmp_path)
    wishes()
    assert emergency_stop(tmp_path).asked_by() == ["dashboard"], "it may be older than the stop"
    server.say(7, False)
    wishes()
    assert emergency_stop(tmp_path).asked_by() == []


def test_a_stop_whose_number_could_not_be_kept_holds_and_is_not_forgotten_by_this_process(server, wishes, tmp_path):
    (tmp_path / "wishes.json.part").mkdir()
    server.say(5, True)
    with pytest.raises(OSError, match=r"wishes\.json"):
        wishes()
    assert emergency_stop(tmp_path).asked_by() == ["dashboard"]
    emergency_stop(tmp_path).withdraw("dashboard")
    wishes()
    assert emergency_stop(tmp_path).asked_by() == []


def test_others_who_ask_are_left_alone(server, wishes, tmp_path):
    emergency_stop(tmp_path).request("operator")
    server.say(5, True)
    wishes()
    server.say(6, False)
    wishes()
    assert emergency_stop(tmp_path).asked_by() == ["operator"]


VERDICT_SAID = {"number": 7, "word": "success", "episode_id": "e1", "said_by": "user:ada", "said_at": "now"}


def test_a_word_about_an_episode_is_left_for_control_once_with_who_said_it(server, wishes, tmp_path):
    word = tmp_path / "run" / VERDICT
    server.say(0, False, verdict=VERDICT_SAID)
    assert wishes() == 0 and wishes.settling
    assert read(word.read_text()) == Verdict(Word.SUCCESS, "ada", "e1")
    word.unlink()
    assert wishes() > 0.1, "that was no news"
    assert not word.exists()
    server.say(0, False, verdict=VERDICT_SAID | {"number": 8, "word": "redo", "episode_id": "e2"})
    wishes()
    assert read(word.read_text()) == Verdict(Word.REDO, "ada", "e2")


@pytest.mark.parametrize(
    "verdict",
    [
        None,
        "success",
        {},
        VERDICT_SAID | {"word": "splendid"},
        VERDICT_SAID | {"episode_id": ""},
        VERDICT_SAID | {"number": True},
        VERDICT_SAID | {"said_by": 5},
    ],
)
def test_a_strange_word_about_an_episode_ends_nothing_and_hides_no_stop(server, wishes, tmp_path, verdict):
    server.say(5, True, verdict=verdict)
    wishes()
    assert emergency_stop(tmp_path).asked_by() == ["dashboard"]
    assert not (tmp_path / "run" / VERDICT).exists()


def test_a_word_that_cannot_be_left_hides_no_stop_and_is_tried_again(server, wishes, tmp_path):
    (tmp_path / "run").write_text("")
    server.say(5, True, verdict=VERDICT_SAID)
    with pytest.raises(OSError):
        wishes()
    assert emergency_stop(tmp_path).asked_by() == ["dashboard"]
    (tmp_path / "run").unlink()
    wishes()
    assert read((tmp_path / "run" / VERDICT).read_text()) == Verdict(Word.SUCCESS, "ada", "e1")


def test_rest_and_a_task_are_obeyed_once_and_outlive_a_restart(server, wishes, tmp_path):
    rests, task = drain(tmp_path).asked_by, Task(tmp_path, "stack")
    server.say(0, False, rest={"number": 3, "wanted": True}, task={"number": 4, "text": "sort the bolts"})
    assert wishes() == 0 and wishes.settling
    assert rests() == ["dashboard"] and task() == "sort the bolts"
    drain(tmp_path).withdraw("dashboard")
    task.ask_for("what somebody said here")
    assert ask(server, tmp_path)() > 0, "there is nothing new in it"
    assert rests() == [] and task() == "what somebody said here"
    server.say(0, False, rest={"number": 5, "wanted": False}, task={"number": 6, "text": None})
    wishes()
    assert rests() == [] and task() == "stack"
    assert [Obeyed(tmp_path).numbers()[kind] for kind in (REST, TASK)] == [5, 6]


def test_a_rest_obeyed_while_a_heartbeat_is_put_together_is_not_told_as_ended(tmp_path, monkeypatch):
    asked_by, rest = Requests.asked_by, drain(tmp_path)

    def obeyed_just_after(requests: Requests) -> list[str]:
        found = asked_by(requests)
        if requests.folder == rest.folder:
            rest.request("dashboard")
            Obeyed(tmp_path).keep(5, REST)
        return found

    monkeypatch.setattr(Requests, "asked_by", obeyed_just_after)
    orders = Report(tmp_path, Spool(tmp_path / "spool"), 10**9).heartbeat("")["orders"]
    assert orders["rest"] < 5 or orders["rests"]


@pytest.mark.parametrize(
    "strange",
    [
        {"rest": {"number": 9, "wanted": "yes"}, "task": {"number": 9, "text": 7}},
        {"rest": {"number": -1, "wanted": True}, "task": {"number": 1 << 53, "text": "x"}},
        {"rest": None, "task": [], "reboot": True},
        {"reboot": {"number": "9"}},
        {"reboot": {"number": 1 << 53}},
        {"rest": {"wanted": True}, "task": {"text": "x"}},
    ],
)
def test_strange_words_of_other_kinds_hide_no_stop_and_do_nothing(server, tmp_path, strange):
    server.say(5, True, **strange)
    ask(server, tmp_path, tmp_path / "reboot")()
    assert emergency_stop(tmp_path).asked_by() == ["dashboard"]
    assert drain(tmp_path).asked_by() == [] and Task(tmp_path, "stack")() == "stack"
    assert not (tmp_path / "reboot").exists()


def test_a_host_is_asked_once_to_start_anew_whatever_the_server_says_again(server, tmp_path):
    file = tmp_path / "reboot"
    server.say(0, False, reboot={"number": 3})
    wishes = ask(server, tmp_path, file)
    assert wishes() == 0 and wishes.settling and file.exists()
    assert "reboot_since=0" in server.asked
    file.unlink()  # as the host does
    assert wishes() > 0 and ask(server, tmp_path, file)() > 0
    assert not file.exists() and "reboot_since=3" in server.asked
    server.say(0, False, reboot={"number": 4})
    ask(server, tmp_path, file)()
    assert file.exists() and Obeyed(tmp_path).numbers()[REBOOT] == 4


def test_a_host_whose_robot_cannot_keep_that_it_asked_is_not_asked(server, tmp_path):
    (tmp_path / "wishes.json.part").mkdir()
    server.say(5, True, reboot={"number": 3})
    with pytest.raises(OSError, match=r"wishes\.json"):
        ask(server, tmp_path, tmp_path / "reboot")()
    assert not (tmp_path / "reboot").exists() and emergency_stop(tmp_path).asked_by() == ["dashboard"]


def test_where_nothing_reboots_the_host_no_reboot_is_taken(server, wishes, tmp_path):
    server.say(0, False, reboot={"number": 3})
    assert wishes() > 0
    assert "reboot_since" not in server.asked and Obeyed(tmp_path).numbers()[REBOOT] == 0
    spool = Spool(tmp_path / "spool")
    told = [Report(tmp_path, spool, 10**9, reboots).heartbeat("")["orders"]["reboot"] for reboots in (False, True)]
    assert told == [None, 0]


def test_a_person_who_rests_the_robot_here_is_not_overruled_from_afar(server, wishes, tmp_path):
    drain(tmp_path).request("operator")
    server.say(0, False, rest={"number": 3, "wanted": True})
    wishes()
    server.say(0, False, rest={"number": 4, "wanted": False})
    wishes()
    assert drain(tmp_path).asked_by() == ["operator"]


def test_a_task_that_cannot_be_read_any_more_stays(tmp_path):
    task = Task(tmp_path, "stack")
    task.ask_for("sort")
    assert task() == "sort"
    (tmp_path / "task").unlink()
    (tmp_path / "task").mkdir()  # as unreadable as a dead disk
    assert task() == "sort"
