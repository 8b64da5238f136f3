"""One process has the arm: real commands beside each other, stopped, killed, and the lock that dies with them."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
import yaml
from arm import eventually, told

from lefleet_agent.occupied import OccupiedError, arm_held, holder

type Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(config, agent_command) -> Iterator[Start]:
    """Starts a command that goes on until the test ends."""
    with contextlib.ExitStack() as stack:

        def begin(*words: str) -> subprocess.Popen[bytes]:
            process = stack.enter_context(subprocess.Popen([*agent_command(*words), "--config", str(config)]))
            stack.callback(process.kill)
            return process

        yield begin


def test_only_one_command_has_the_arm_also_while_it_hangs_and_the_next_has_it_once_that_is_dead(
    start, config, lefleet_agent
):
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"hung_after_s": 5}))
    recording = start("record")
    assert eventually(lambda: told(config)["state"] == "resetting", 120)
    for command in ("run", "record", "fit"):
        refused = lefleet_agent(command)
        assert refused.returncode == 1, command
        assert f"`lefleet-agent record` (process {recording.pid}) has the arm" in refused.stderr
    recording.send_signal(signal.SIGSTOP)
    assert eventually(lambda: "control hangs but still holds" in lefleet_agent("run").stderr, 120)
    recording.kill()
    recording.wait(60)
    control = start("run")
    assert eventually(lambda: holder(config.parent / "state" / "run") == "run", 120)
    assert eventually(lambda: told(config)["state"] == "error", 120), "no release is active"
    refused = lefleet_agent("record")
    assert refused.returncode == 1 and "control is running (error): both would move the arm" in refused.stderr
    control.send_signal(signal.SIGTERM)
    assert control.wait(60) == 0
    assert holder(config.parent / "state" / "run") is None


def test_control_does_not_start_while_an_episode_is_played(start, config, lefleet_agent, robot_side):
    side = robot_side("http://127.0.0.1:9")
    path = side.settings.state_dir / "spool" / f"{side.record(ticks=600)}.h5"
    playing = start("replay", str(path), "--force", "--speed", "0.05")
    assert eventually(lambda: holder(config.parent / "state" / "run") == "replay", 120)
    for command in ("run", "record"):
        refused = lefleet_agent(command)
        assert refused.returncode == 1
        assert f"`lefleet-agent replay` (process {playing.pid}) has the arm: both would move" in refused.stderr
    looked = lefleet_agent("doctor")
    assert "`lefleet-agent replay`" in " ".join(looked.stdout.split())


def test_a_lock_that_cannot_be_made_is_no_free_arm(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(OccupiedError, match=r"run.*state_dir's disk"), arm_held(tmp_path / "run", "run", "no"):
        raise AssertionError("it was taken")


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path):
    with arm_held(tmp_path, "run", "no"):
        child = subprocess.Popen(["sleep", "60"])
    try:
        with arm_held(tmp_path, "record", "no"):
            assert holder(tmp_path) == "record" and child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_a_signature_that_cannot_be_read_is_still_a_refusal(tmp_path):
    with arm_held(tmp_path, "replay", "no"):
        os.truncate(tmp_path / "arm.lock", 0)
        with (
            pytest.raises(OccupiedError, match="another command of lefleet-agent has the arm"),
            arm_held(tmp_path, "run", "no"),
        ):
            raise AssertionError("it was taken")
