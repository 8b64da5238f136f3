from pathlib import Path

import pytest
import yaml

from lefleet_agent.config import ConfigError, describe, load

DOCS = Path(__file__).resolve().parents[2] / "docs" / "agent-settings.md"

GOOD = {"robot_id": "robot-1", "server_url": "http://127.0.0.1:8000", "state_dir": "/var/lib/lefleet"}


def write(tmp_path, values):
    path = tmp_path / "agent.yml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_least_settings_are_enough(tmp_path):
    settings = load(write(tmp_path, GOOD))
    assert settings.control_hz == 30 and settings.robot.type == "so101_sim"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"robot_id": "Robot 1"}, "robot_id = 'Robot 1'"),
        ({"control_hz": 0}, "control_hz = 0"),
        ({"contrl_hz": 30}, "contrl_hz = 30"),
        ({"recording": {"jpeg_quality": 500}}, "recording.jpeg_quality = 500"),
        ({"server_url": "robots.local"}, "server_url = 'robots.local'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(tmp_path, change, named):
    with pytest.raises(ConfigError, match="wrong setting") as error:
        load(write(tmp_path, GOOD | change))
    assert named in str(error.value)


def test_a_robot_is_of_one_kind_and_its_settings_are_named_as_the_file_has_them(tmp_path):
    arm = {"type": "so101_follower", "p_gain": 300, "cameras": {"front": {"path": "/dev/video0", "fps": 0}}}
    with pytest.raises(ConfigError) as error:
        load(write(tmp_path, GOOD | {"robot": arm}))
    assert "robot.p_gain = 300" in str(error.value) and "robot.cameras.front.fps = 0" in str(error.value)
    with pytest.raises(ConfigError, match=r"so101_sim.*so101_follower.*lerobot"):
        load(write(tmp_path, GOOD | {"robot": {"type": "so102"}}))
    with pytest.raises(ConfigError, match=r"robot\.p_gain = 16"):
        load(write(tmp_path, GOOD | {"robot": {"type": "so101_sim", "p_gain": 16}}))


@pytest.mark.parametrize(
    ("robot", "name", "value"),
    [({}, "camera_fps", 15.0), ({"gl": "egl"}, "camera_fps", 15.0), ({"type": "so101_follower"}, "p_gain", 12)],
)
def test_the_environment_sets_a_single_value_of_any_robot(tmp_path, monkeypatch, robot, name, value):
    monkeypatch.setenv(f"LEFLEET_AGENT_ROBOT__{name.upper()}", str(value))
    found = load(write(tmp_path, GOOD | {"robot": robot})).robot
    assert getattr(found, name) == value and found.type == robot.get("type", "so101_sim")


def test_every_wrong_setting_is_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(write(tmp_path, {"control_hz": -1, "pause_s": -1}))
    for name in ("robot_id", "server_url", "state_dir", "control_hz", "pause_s"):
        assert name in str(error.value)


def test_a_missing_file_says_how_to_name_one(tmp_path):
    with pytest.raises(ConfigError, match="--config"):
        load(tmp_path / "nothing.yml")


def test_the_environment_outranks_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LEFLEET_AGENT_CONTROL_HZ", "50")
    assert load(write(tmp_path, GOOD)).control_hz == 50


def test_the_docs_list_every_setting_with_its_default_and_meaning_and_no_other():
    rows = [f"| `{name}` | `{default}` | {meaning} |" for name, default, meaning in describe()]
    documented = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert documented == rows
