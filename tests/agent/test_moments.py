"""The seconds before an event while no episode runs, through the real control session, recorder and simulator."""

import json
import threading
import time
from pathlib import Path

import h5py
import pytest
import yaml
from typer.testing import CliRunner

from lefleet_agent.__main__ import app
from lefleet_agent.config import ConfigError, load
from lefleet_agent.requests import drain, emergency_stop
from lefleet_agent.spool import Spool
from lefleet_agent.wiring import build_session

KEPT_S = 1.0


def settings_file(tmp_path: Path, before_event_s: float) -> Path:
    values = {
        "robot_id": "robot-1",
        "server_url": "http://127.0.0.1:1",
        "state_dir": str(tmp_path / "state"),
        "control_hz": 15,
        "robot": {"camera_width": 64, "camera_height": 64},
        "recording": {"before_event_s": before_event_s},
    }
    path = tmp_path / "agent.yml"
    path.write_text(yaml.safe_dump(values))
    return path


def save_moment(config: Path, *words: str):
    return CliRunner().invoke(app, ["save-moment", *words, "--config", str(config)])


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def test_what_a_resting_robot_saw_before_a_wish_and_before_an_emergency_stop_becomes_an_episode(tmp_path):
    config = settings_file(tmp_path, KEPT_S)
    state = tmp_path / "state"
    (state / "run").mkdir(parents=True)
    drain(state).request("test")
    stop, told, failures = threading.Event(), state / "run" / "control.json", []

    def events() -> dict[str, Path]:
        spool = Spool(state / "spool")
        found = {}
        for path in sorted((state / "spool").glob("*.h5")):
            if spool.get(path.stem):
                with h5py.File(path) as file:
                    found[json.loads(file.attrs["extra"])["before_event"]] = path
        spool.close()
        return found

    def person() -> None:
        try:
            wait_until(lambda: told.exists() and json.loads(told.read_text())["state"] == "drained", "drained")
            time.sleep(3 * KEPT_S)  # more than is kept
            assert save_moment(config, "the cup fell").exit_code == 0
            wait_until(lambda: "the cup fell" in events(), "the wish's episode")
            time.sleep(KEPT_S)
            emergency_stop(state).request("test")
            wait_until(lambda: "emergency stop" in events(), "the emergency stop's episode")
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            failures.append(error)
        finally:
            stop.set()

    helper = threading.Thread(target=person)
    with build_session(load(config), stop) as session:
        helper.start()
        session.run()
    helper.join()
    if failures:
        raise failures[0]
    found = events()
    assert sorted(found) == ["emergency stop", "the cup fell"], "each event is saved once"
    with h5py.File(found["the cup fell"]) as file:
        times_ns = file["/time/monotonic_ns"][:]
        assert 0 < (times_ns[-1] - times_ns[0]) * 1e-9 <= KEPT_S
        assert file.attrs["policy_repo"] == "" and "seed" not in file.attrs
        assert file["/held"][:].all()
        assert (file["/observations/image_bytes/front"][:] > 0).all(), "a picture from its first tick on"


def test_a_robot_that_keeps_nothing_says_how_it_would(tmp_path):
    refused = save_moment(settings_file(tmp_path, 0))
    assert isinstance(refused.exception, ConfigError)
    assert "recording.before_event_s = 0" in str(refused.exception)


def test_a_wish_during_an_episode_leaves_no_word_behind(tmp_path):
    config = settings_file(tmp_path, KEPT_S)
    run = tmp_path / "state" / "run"
    run.mkdir(parents=True)
    (run / "control.json").write_text(json.dumps({"episode_id": "e" * 32}))
    answer = save_moment(config)
    assert answer.exit_code == 0 and "holds these seconds itself" in answer.output
    assert not (run / "moment").exists()


@pytest.mark.parametrize("name", ["", "  ", "x" * 81])
def test_a_name_that_says_nothing_or_too_much_is_refused(tmp_path, name):
    assert save_moment(settings_file(tmp_path, KEPT_S), name).exit_code == 2
