"""Demonstrations and takeovers through the commands: two emulated arms, the real drivers, recorder and spool."""

import json
import signal
import subprocess
from collections.abc import Iterator

import h5py
import numpy as np
import pytest
import yaml
from arm import Lab, eventually, ticks, told
from sts3215 import GOAL, TORQUE

from lefleet_agent.requests import takeover

STEP_DEGREES = 360 / 4095


@pytest.fixture
def recording(config, agent_command) -> Iterator[subprocess.Popen[bytes]]:
    words = agent_command("record", "--task", "stack the cubes", "--episodes", "2", "--config", str(config))
    process = subprocess.Popen(words)
    yield process
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def follows(follower: Lab, leader: Lab) -> bool:
    return all(abs(arm.position - leader.bus.servos[n].position) <= 3 for n, arm in follower.bus.servos.items())


def test_a_person_records_demonstrations(recording, config, lefleet_agent, follower, leader):
    assert eventually(lambda: told(config)["state"] == "resetting", 60)
    assert "lefleet-agent begin" in told(config)["detail"]
    refused = lefleet_agent("record")
    assert refused.returncode == 1 and "`lefleet-agent record` (process" in refused.stderr
    for number, outcome in enumerate(("success", "failure")):
        assert eventually(lambda: told(config)["state"] == "resetting", 20)
        leader.bus.servos[1].position = 2100 + 150 * number
        leader.bus.servos[6].position = 2500
        assert eventually(lambda: follows(follower, leader), 20)
        assert lefleet_agent("begin").returncode == 0
        assert eventually(lambda: ticks(config), 20)
        leader.bus.servos[2].position = 2200 - 100 * number
        assert eventually(lambda: follows(follower, leader), 20)
        assert lefleet_agent("outcome", outcome).returncode == 0
    assert recording.wait(30) == 0
    assert not [each for each in leader.bus.writes(TORQUE) if each.value] and not leader.bus.writes(GOAL)

    files = sorted((config.parent / "state" / "spool").glob("*.h5"), key=lambda path: path.stat().st_mtime_ns)
    for number, (path, outcome) in enumerate(zip(files, ("success", "failure"), strict=True)):
        with h5py.File(path) as file:
            said, action, requested = dict(file.attrs), file["/action"][:], file["/action_requested"][-1]
            assert not file["/intervention"][:].any() and not file["/held"][:].all()
        assert (said["outcome"], said["task"], said["policy_repo"]) == (outcome, "stack the cubes", "")
        assert not said["interrupted"] and said["interventions"] == 0
        expected = [150 * number * STEP_DEGREES, (2200 - 100 * number - 2040) * STEP_DEGREES]
        np.testing.assert_allclose(requested[:2], expected, atol=0.2)
        assert np.abs(np.diff(action, axis=0)).max() < 20


def test_the_arm_is_taken_and_handed_back_by_a_command_that_says_who_still_holds_it(lefleet_agent, config):
    asked = takeover(config.parent / "state")
    assert lefleet_agent("takeover").returncode == 0 and asked.asked_by() == ["operator"]
    answer = json.loads(lefleet_agent("takeover", "--by", "pedal", "--json").stdout)
    assert answer == {"changed": True, "asked_by": ["operator", "pedal"]}
    assert "still in the hands of pedal" in lefleet_agent("handback").stdout
    assert json.loads(lefleet_agent("handback", "--by", "all", "--json").stdout) == {"changed": True, "asked_by": []}


@pytest.mark.parametrize("command", ["takeover", "record"])
def test_without_a_leader_arm_nobody_takes_over(lefleet_agent, config, command):
    settings = yaml.safe_load(config.read_text())
    del settings["leader"]
    config.write_text(yaml.safe_dump(settings))
    answer = lefleet_agent(command)
    assert answer.returncode == 1 and "leader = null: there is no leader arm; set leader.type" in answer.stderr
    assert not takeover(config.parent / "state").asked_by()


def test_a_reset_that_lacks_what_it_needs_is_refused_at_start(lefleet_agent, config):
    settings = yaml.safe_load(config.read_text())
    for changes, sentence in (
        ({"reset": "pose"}, "reset = pose needs reset_pose"),
        ({"reset": "leader", "leader": None}, "reset = leader needs a leader arm"),
    ):
        config.write_text(yaml.safe_dump(settings | changes))
        answer = lefleet_agent("begin")
        assert answer.returncode == 1 and sentence in answer.stderr
