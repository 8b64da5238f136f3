"""What role robot_devices says of a calibration file before it is copied to a robot."""

import dataclasses
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
PAN = {"id": 1, "drive_mode": 0, "homing_offset": -120, "range_min": 700, "range_max": 3400}


def problems(path: Path) -> list[str]:
    return read(path)["problems"]  # type: ignore[no-any-return]


def read(path: Path) -> dict[str, Any]:
    source = REPO / "roles" / "robot_devices" / "filter_plugins" / "robot_devices.py"
    spec = importlib.util.spec_from_file_location("robot_devices_filters", source)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    told: dict[str, Any] = module.FilterModule().filters()["robot_devices_calibration"](str(path))
    return told


def test_a_good_one_has_no_problems_and_its_own_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "robot.json"
    path.write_text(json.dumps({"shoulder_pan": PAN, "gripper": PAN | {"id": 6}}) + "\n")
    assert read(path) == {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "problems": []}


@pytest.mark.parametrize(
    ("joints", "said"),
    [
        ([], "it must map each joint's name to id, drive_mode"),
        ({}, "it must map each joint's name to id, drive_mode"),
        ({"pan": 7}, "joint pan is 7; it needs id, drive_mode"),
        ({"pan": {name: value for name, value in PAN.items() if name != "range_max"}}, "joint pan lacks range_max"),
        ({"pan": PAN | {"homing_offset": 1.5}}, "joint pan: homing_offset is 1.5, no whole number"),
        ({"pan": PAN | {"id": True}}, "joint pan: id is true, no whole number"),
        ({"pan": PAN | {"range_min": "700"}}, 'joint pan: range_min is "700", no whole number'),
        ({"pan": PAN | {"range_max": 700}}, "joint pan: range_min 700 must be below range_max 700"),
        ({"pan": PAN | {"drive_mode": 2}}, "joint pan: drive_mode 2 must be 0 or 1"),
        ({"pan": PAN | {"speed": 1}}, "joint pan has speed, which LeRobot does not know"),
        ({"pan": PAN, "lift": PAN}, "id 1 stands for 2 joints"),
    ],
)
def test_a_malformed_one_is_told_with_joint_and_field(tmp_path: Path, joints: Any, said: str) -> None:
    path = tmp_path / "robot.json"
    path.write_text(json.dumps(joints))
    assert [problem for problem in problems(path) if said in problem] != []


def test_what_is_no_json_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "robot.json").write_text("{")
    assert "it is no JSON" in problems(tmp_path / "robot.json")[0]
    assert problems(tmp_path / "nowhere.json") == ["No such file or directory"]


def test_the_fields_are_those_of_lerobot() -> None:
    from lerobot.motors import MotorCalibration

    assert sorted(PAN) == sorted(field.name for field in dataclasses.fields(MotorCalibration))
