"""What the role asks of files on the operator's machine."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# LeRobot 0.6's MotorCalibration: it loads a file only if each joint has these and no others.
FIELDS = ("id", "drive_mode", "homing_offset", "range_min", "range_max")


def calibration(path: str) -> dict[str, Any]:
    """`sha256` of a calibration file of LeRobot, and the `problems` that are in it, as sentences."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return {"sha256": "", "problems": [error.strerror or str(error)]}
    return {"sha256": hashlib.sha256(content).hexdigest(), "problems": _problems(content)}


def _problems(content: bytes) -> list[str]:
    try:
        joints = json.loads(content)
    except ValueError as error:
        return [f"it is no JSON: {error}"]
    if not isinstance(joints, dict) or not joints:
        return [f"it must map each joint's name to {', '.join(FIELDS)}"]
    found = [problem for name, joint in joints.items() for problem in _joint(name, joint)]
    ids = Counter(joint.get("id") for joint in joints.values() if isinstance(joint, dict) and "id" in joint)
    return [*found, *(f"id {number} stands for {count} joints" for number, count in ids.items() if count > 1)]


def _joint(name: str, joint: Any) -> list[str]:
    if not isinstance(joint, dict):
        return [f"joint {name} is {json.dumps(joint)}; it needs {', '.join(FIELDS)}"]
    lacks = [f"joint {name} lacks {field}" for field in FIELDS if field not in joint]
    other = [f"joint {name} has {field}, which LeRobot does not know" for field in joint if field not in FIELDS]
    wrong = [
        f"joint {name}: {field} is {json.dumps(joint[field])}, no whole number"
        for field in FIELDS
        if field in joint and type(joint[field]) is not int
    ]
    if lacks or wrong:
        return [*lacks, *other, *wrong]
    if joint["range_min"] >= joint["range_max"]:
        wrong.append(f"joint {name}: range_min {joint['range_min']} must be below range_max {joint['range_max']}")
    if joint["drive_mode"] not in (0, 1):
        wrong.append(f"joint {name}: drive_mode {joint['drive_mode']} must be 0 or 1")
    return [*other, *wrong]


class FilterModule:
    """Ansible's entrance."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"robot_devices_calibration": calibration}
