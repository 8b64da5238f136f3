"""Keys at a real pseudo-terminal become words for control; without a terminal nothing is read."""

import os
import pty
import signal
import subprocess
import sys
import termios

import h5py
import pytest
from arm import eventually, ticks, told

from lefleet_agent.keyboard import listening
from lefleet_agent.verdict import Verdict, Word, read


@pytest.fixture
def terminal(monkeypatch):
    """The far end of a terminal that is this process's standard input."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours
    os.close(ours)


def test_each_key_is_its_word_and_the_terminal_is_given_back_as_it_was(terminal, tmp_path):
    before, told_people = termios.tcgetattr(sys.stdin.fileno()), []
    with listening(tmp_path, told_people.append):
        for key, word in ((b"s", Word.SUCCESS), (b"F", Word.FAILURE), (b"e", Word.UNKNOWN), (b"xr", Word.REDO)):
            os.write(terminal, key)
            expected = Verdict(word, "at the keyboard")
            path = tmp_path / "verdict"
            assert eventually(lambda: path.exists() and read(path.read_text()) == expected, 20)  # noqa: B023 - at once
        os.write(terminal, b"b")
        assert eventually((tmp_path / "begin").exists, 20)
    assert "s success" in told_people[0] and termios.tcgetattr(sys.stdin.fileno()) == before


def test_what_is_no_terminal_is_never_read(monkeypatch, tmp_path):
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w") as far:
        monkeypatch.setattr(sys, "stdin", stdin)
        told_people: list[str] = []
        with listening(tmp_path, told_people.append):
            far.write("s\n")
            far.flush()
        assert not told_people and not (tmp_path / "verdict").exists()
        assert os.read(stdin.fileno(), 9) == b"s\n"


def test_demonstrations_are_begun_judged_and_done_again_by_keys(config, agent_command, leader):
    ours, theirs = pty.openpty()
    words = agent_command("record", "--episodes", "1", "--config", str(config))
    process = subprocess.Popen(words, stdin=theirs)
    try:
        for key in (b"r", b"s"):
            assert eventually(lambda: told(config)["state"] == "resetting", 120)
            os.write(ours, b"\n")
            assert eventually(lambda: ticks(config), 120)
            os.write(ours, key)
        assert process.wait(120) == 0
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(ours)
        os.close(theirs)
    reasons = {}
    for path in (config.parent / "state" / "spool").glob("*.h5"):
        with h5py.File(path) as file:
            reasons[file.attrs["end_reason"]] = file.attrs["outcome"], bool(file.attrs["interrupted"])
    assert reasons == {
        "the operator ended it: at the keyboard, to do it again": ("unknown", True),
        "the operator ended it: at the keyboard": ("success", False),
    }
