"""SIGTERM to real processes: what was recorded is kept, nothing is left running, and the status says how it went."""

import os
import signal
import subprocess
import sys
import time

import h5py
import pytest
from arm import eventually, ticks, told

from lefleet_agent import memory
from lefleet_agent.verdict import begin_episode

PATIENCE_S = 120


@pytest.fixture
def recording(config, agent_command):
    """`lefleet-agent record` in the middle of an episode."""
    words = agent_command("record", "--seconds", "600", "--config", str(config))
    with subprocess.Popen(words) as process:
        assert eventually(lambda: told(config)["state"] == "resetting", PATIENCE_S)
        begin_episode(config.parent / "state" / "run")
        assert eventually(lambda: ticks(config), PATIENCE_S)
        yield process
        process.kill()


def started(process) -> list[int]:
    return [child.pid for child in memory.children(process.pid)]


def gone(pids: list[int]) -> bool:
    return all(memory.process(pid) is None for pid in pids)


def reasons(config) -> list[tuple[str, bool]]:
    found = []
    for path in (config.parent / "state" / "spool").glob("*.h5"):
        with h5py.File(path) as file:
            assert file.attrs["frames"] == len(file["/action"]) > 0
            found.append((file.attrs["end_reason"], bool(file.attrs["interrupted"])))
    return found


def test_an_episode_that_runs_ends_as_interrupted_and_no_process_is_left(recording, config):
    children = started(recording)
    recording.send_signal(signal.SIGTERM)
    assert recording.wait(PATIENCE_S) == 0 and eventually(lambda: gone(children), PATIENCE_S)
    assert reasons(config) == [("stopped", True)]


def test_a_recorder_that_hangs_is_cut_off_and_its_episode_recovered_at_the_next_start(recording, config, agent_command):
    children = started(recording)
    recorder = next(pid for pid in children if "spawn_main" in " ".join(memory.process(pid).words))
    os.kill(recorder, signal.SIGSTOP)
    recording.send_signal(signal.SIGTERM)
    assert recording.wait(PATIENCE_S) == 3 and eventually(lambda: gone(children), PATIENCE_S)
    assert reasons(config) == []
    with subprocess.Popen([*agent_command("record"), "--config", str(config)]) as again:
        assert eventually(lambda: len(reasons(config)) == 1, PATIENCE_S)
        again.send_signal(signal.SIGTERM)
        assert again.wait(PATIENCE_S) == 0
    ((reason, interrupted),) = reasons(config)
    assert interrupted and reason.startswith("recovered after a crash")


def test_a_stop_while_a_crashed_episode_is_recovered_loses_none_of_it(recording, config, agent_command):
    state = config.parent / "state"
    assert eventually(lambda: told(config)["loop"]["ticks"] > 60, PATIENCE_S)
    children = started(recording)
    for pid in (recording.pid, *children):
        os.kill(pid, signal.SIGKILL)
    recording.wait()
    assert eventually(lambda: gone(children), PATIENCE_S)
    (journal,) = [path for path in (state / "journal").iterdir() if path.stat().st_size]
    size = journal.stat().st_size
    early = 0
    for wait_s in (0.0, 0.1):
        with subprocess.Popen([*agent_command("record"), "--config", str(config)]) as again:
            assert eventually(lambda again=again: started(again) or again.poll() is not None, PATIENCE_S)
            time.sleep(wait_s)
            early += not reasons(config)
            again.send_signal(signal.SIGTERM)
            assert again.wait(PATIENCE_S) in (0, 3)
        assert reasons(config) or journal.stat().st_size == size, "it is whole on one side or on the other"
    with subprocess.Popen([*agent_command("record"), "--config", str(config)]) as last:
        assert eventually(lambda: started(last) and len(reasons(config)) == 1, PATIENCE_S)
        last.send_signal(signal.SIGTERM)
        assert last.wait(PATIENCE_S) == 0
    ((reason, interrupted),) = reasons(config)
    assert interrupted and reason.startswith("recovered after a crash")
    assert early, "no stop came before the recovery was done"


STUCK = """
import subprocess, time
from lefleet_agent.stopping import Stop
Stop().on_signals()
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
while True:
    time.sleep(600)
"""


def test_a_process_that_is_stuck_ends_anyway_with_its_children():
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 3
    assert eventually(lambda: gone([child]), PATIENCE_S)
