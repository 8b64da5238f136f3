"""An SO-101 without hardware: its calibration file, its emulated motors, and the robot of the agent on top."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from sts3215 import Bus, Servo

from lefleet_agent.config_robots import So101Follower
from lefleet_agent.robots.lerobot import RealArm
from lefleet_agent.wiring import build_arm

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
RANGES = ((760, 3440), (850, 3230), (880, 3090), (900, 3200), (0, 4095), (2030, 3480))


@dataclass
class Lab:
    """A folder with `so101.json`, and the bus behind the port `arm` in it."""

    folder: Path
    bus: Bus

    @classmethod
    def make(cls, folder: Path) -> "Lab":
        calibration = {
            joint: {"id": n + 1, "drive_mode": 0, "homing_offset": 40 * n - 90, "range_min": low, "range_max": high}
            for n, (joint, (low, high)) in enumerate(zip(JOINTS, RANGES, strict=True))
        }
        (folder / "so101.json").write_text(json.dumps(calibration))
        servos = [
            Servo(each["id"], each["range_min"], each["range_max"], each["homing_offset"])
            for each in calibration.values()
        ]
        return cls(folder, Bus(folder / "arm", servos))

    @classmethod
    @contextmanager
    def plugged(cls, folder: Path) -> Iterator["Lab"]:
        """An arm that is plugged in, in a folder that is made where it is missing; unplugged at the end."""
        folder.mkdir(exist_ok=True)
        lab = cls.make(folder)
        lab.bus.plug()
        try:
            yield lab
        finally:
            lab.bus.unplug()

    @contextmanager
    def connected(self) -> Iterator[RealArm]:
        """The agent's robot on it."""
        robot = self.robot()
        robot.connect()
        try:
            yield robot
        finally:
            robot.disconnect()

    def settings(self, **changes) -> So101Follower:
        values = {"port": str(self.bus.link), "calibration_id": "so101", "calibration_dir": self.folder}
        return So101Follower(type="so101_follower", **values | changes)

    def robot(self, **changes) -> RealArm:
        return build_arm(self.settings(**changes), "robot-1")


def eventually(condition: Callable[[], bool], limit_s: float = 5.0) -> bool:
    deadline = monotonic() + limit_s
    while not condition():
        if monotonic() > deadline:
            return False
        sleep(0.01)
    return True


def told(config: Path) -> dict:
    """What control says in the state folder beside this file of settings."""
    try:
        return json.loads((config.parent / "state" / "run" / "control.json").read_text())
    except FileNotFoundError:
        return {"state": "", "detail": ""}


def ticks(config: Path) -> bool:
    """An episode runs and has a tick: one that ends before its first leaves no file."""
    said = told(config)
    return said["state"] == "running" and bool((said["episode"] or {}).get("ticks"))
