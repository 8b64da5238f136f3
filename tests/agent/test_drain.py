"""Putting a robot to rest: what it was asked, by whom, and how one waits for it."""

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml

from lefleet_agent.drained import DrainError, wait_until_delivered, wait_until_drained
from lefleet_agent.episode import Outcome
from lefleet_agent.liveness import UNTIL
from lefleet_agent.requests import drain
from lefleet_agent.spool import Spool


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "agent.yml"
    path.write_text(
        yaml.safe_dump({"robot_id": "robot-1", "server_url": "http://127.0.0.1:9", "state_dir": str(tmp_path)})
    )
    return path


@pytest.fixture
def lefleet_agent(config, agent_command):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*agent_command(*words), "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


class Control:
    """Writes run/control.json as the recorder does, only faster."""

    def __init__(self, state_dir: Path, state: str, alive_s: float = 60) -> None:
        self.state, self.alive_s = state, alive_s
        self._path = state_dir / "run" / "control.json"
        self._path.parent.mkdir(exist_ok=True)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self):
        self._thread.start()
        while not self._path.exists():
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _write(self):
        while not self._end.wait(0.05):
            until_ns = time.monotonic_ns() + round(self.alive_s * 1e9)
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps({"state": self.state, "wall_ns": time.time_ns(), UNTIL: until_ns}))
            part.rename(self._path)


def test_each_asks_for_itself_and_what_was_asked_outlives_the_process(tmp_path):
    drain(tmp_path).request("operator")
    assert drain(tmp_path).request("service") and not drain(tmp_path).request("service")
    assert drain(tmp_path).asked_by() == ["operator", "service"]
    assert drain(tmp_path).withdraw("service") and not drain(tmp_path).withdraw("service")
    assert drain(tmp_path).asked_by() == ["operator"]


def test_waiting_ends_when_control_rests(tmp_path):
    with Control(tmp_path, "running") as control:
        threading.Timer(0.3, setattr, (control, "state", "drained")).start()
        assert wait_until_drained(tmp_path, 10) == "drained"


def test_nothing_runs_where_control_never_ran_or_has_stopped(tmp_path):
    assert wait_until_drained(tmp_path, 0) == "absent"
    with Control(tmp_path, "stopped"):
        assert wait_until_drained(tmp_path, 0) == "stopped"


@pytest.mark.parametrize(
    ("state", "alive_s", "said"), [("running", 60, "control is running"), ("drained", -1, "silent")]
)
def test_an_episode_that_goes_on_and_a_hung_control_are_not_rest(tmp_path, state, alive_s, said):
    with Control(tmp_path, state, alive_s), pytest.raises(DrainError, match=said):
        wait_until_drained(tmp_path, 0.5)


def spooled(state_dir: Path) -> Spool:
    spool = Spool(state_dir / "spool")
    values = {"sha256": "a" * 64, "size_bytes": 7, "outcome": Outcome.SUCCESS, "interrupted": False}
    spool.add("e1", "e1.h5", ended_wall_ns=1, **values)
    return spool


def test_delivered_means_acknowledged_or_refused_and_nothing_left_in_the_journal(tmp_path):
    spool = spooled(tmp_path)
    with pytest.raises(DrainError, match="1 episodes still wait"):
        wait_until_delivered(tmp_path, spool, 0)
    spool.refuse("e1", "not an episode")
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "e2.mcap").touch()
    with pytest.raises(DrainError, match=r"1 episodes still wait .* courier has not started"):
        wait_until_delivered(tmp_path, spool, 0)
    (tmp_path / "journal" / "e2.mcap").unlink()
    assert wait_until_delivered(tmp_path, spool, 0) == 1


def test_the_commands_drain_wait_and_resume(tmp_path, lefleet_agent):
    with Control(tmp_path, "running") as control:
        late = lefleet_agent("drain", "--wait", "0.5")
        assert late.returncode == 1 and "control is running; the request stands" in late.stderr
        control.state = "drained"
        done = json.loads(lefleet_agent("drain", "--wait", "10", "--json").stdout)
        assert done == {"changed": False, "state": "drained"}
        spooled(tmp_path)
        waiting = lefleet_agent("drain", "--spool", "--wait", "2")
        assert waiting.returncode == 1 and "1 episodes still wait" in waiting.stderr
    lefleet_agent("drain", "--by", "service")
    assert json.loads(lefleet_agent("resume", "--json").stdout) == {"changed": True, "asked_by": ["service"]}
    assert "it goes on" in lefleet_agent("resume", "--by", "all").stdout
    assert lefleet_agent("drain", "--by", "../x").returncode == 2


def test_what_was_refused_is_offered_again_when_somebody_says_so(tmp_path, lefleet_agent):
    spool = spooled(tmp_path)
    assert json.loads(lefleet_agent("retry-refused", "--json").stdout) == {"episodes": []}
    spool.refuse("e1", "the server was wrong")
    assert spool.next_waiting() is None
    assert "1 episodes wait for the server again" in lefleet_agent("retry-refused").stdout
    assert spool.next_waiting().episode_id == "e1" and not spool.refused()


def test_health_is_exit_1_until_both_write(tmp_path, lefleet_agent):
    dead = lefleet_agent("health", "--json")
    assert dead.returncode == 1 and not json.loads(dead.stdout)["courier"]["alive"]
    with Control(tmp_path, "idle"):
        assert lefleet_agent("health").returncode == 1
        alive = lefleet_agent("health", "control")
        assert alive.returncode == 0 and "control is alive: idle" in alive.stdout
    assert lefleet_agent("health", "arm").returncode == 2
