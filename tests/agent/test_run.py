"""`lefleet-agent run` as a whole: its own process, a LeRobot policy in another, the recorder in a third."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import yaml
from arm import eventually, ticks, told

from lefleet_agent.requests import takeover

CHECKPOINT = Path(__file__).resolve().parents[2] / "agent" / "demo" / "checkpoint"
STEP_DEGREES = 360 / 4095


@pytest.fixture
def started(config, leader, agent_command, lefleet_agent) -> Iterator[subprocess.Popen[bytes]]:
    """The simulated arm with its trained policy, and an emulated leader arm beside it."""
    settings = yaml.safe_load(config.read_text()) | {"robot": {"type": "so101_sim"}, "episode_time_limit_s": 300}
    config.write_text(yaml.safe_dump(settings))
    installed = lefleet_agent("release", "install", str(CHECKPOINT))
    assert installed.returncode == 0, installed.stderr
    process = subprocess.Popen([*agent_command("run"), "--config", str(config)])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def running(started, config) -> subprocess.Popen[bytes]:
    assert eventually(lambda: ticks(config), 240)
    return started


def episodes(config: Path) -> list[Path]:
    return sorted((config.parent / "state" / "spool").glob("*.h5"), key=lambda path: path.stat().st_mtime_ns)


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def corrected(path: Path) -> bool:
    with h5py.File(path) as file:
        return file.attrs["interventions"] == 1


def test_a_person_takes_over_from_the_policy_and_hands_back(running, config, lefleet_agent, leader):
    asked = takeover(config.parent / "state")
    leader.bus.servos[1].position = 2100 + 200
    time.sleep(1)  # the policy's
    assert lefleet_agent("takeover").returncode == 0
    time.sleep(3)  # the person's
    assert lefleet_agent("handback").returncode == 0 and not asked.asked_by()
    time.sleep(2)
    assert lefleet_agent("outcome", "failure").returncode == 0
    assert eventually(lambda: any(corrected(path) for path in episodes(config)), 120)
    path = next(path for path in episodes(config) if corrected(path))
    with h5py.File(path) as file:
        led, requested, action = file["/intervention"][:] == 1, file["/action_requested"][:], file["/action"][:]
        assert file.attrs["policy_repo"] == CHECKPOINT.name and file.attrs["policy_type"] == "act"
    first, last = np.flatnonzero(led)[[0, -1]]
    assert 0 < first < last < len(led) - 1, "the policy drives before and after"
    assert abs(requested[last, 0] - 200 * STEP_DEGREES) < 1
    assert np.abs(np.diff(action[:, :5], axis=0)).max() <= 400 / 30 + 1e-3, "no jump at either join"


def test_a_stop_ends_the_episode_and_leaves_no_process_behind(running, config):
    parts = psutil.Process(running.pid).children(recursive=True)
    assert {"lefleet-policy"} <= {part.name() for part in parts}
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    assert eventually(lambda: not any(map(lives, parts)), 30)
    with h5py.File(episodes(config)[-1]) as file:
        assert file.attrs["interrupted"] and file.attrs["end_reason"] == "stopped"
        assert len(file["/action"]) == file.attrs["frames"] > 0


def test_a_stop_while_the_policy_loads_ends_at_once_and_leaves_no_process_behind(started, config):
    assert eventually(lambda: told(config)["state"] == "loading", 240)
    process = psutil.Process(started.pid)
    assert eventually(lambda: "lefleet-policy" in {part.name() for part in process.children()}, 60)
    parts = process.children(recursive=True)
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 0
    assert eventually(lambda: not any(map(lives, parts)), 30)
    assert not episodes(config)
