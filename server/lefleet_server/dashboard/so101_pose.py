"""The SO-101's kinematics, for drawing its posture. Pure.

Joint frames are those of the SO-ARM100 project's `so101_new_calib.urdf` (TheRobotStudio, Apache-2.0), in metres and
radians; each joint turns around its own z axis. A test compares them with the model that MuJoCo loads.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

type Vector = tuple[float, float, float]
type Matrix = list[list[float]]

_GRIPPER_RAD = (-0.17453, 1.74533)
"""Closed (0 percent) and open (100 percent), as LeRobot counts it."""


@dataclass(frozen=True, slots=True)
class Joint:
    """Its frame at angle 0 in that of the joint before ("base": that of the base)."""

    name: str
    parent: str
    xyz: Vector
    rpy: Vector


@dataclass(frozen=True, slots=True)
class Limb:
    """A capsule in a joint's frame ("base": that of the base)."""

    joint: str
    begin: Vector
    end: Vector
    radius_m: float


_HALF = math.pi / 2
JOINTS = (
    Joint("shoulder_pan", "base", (0.0388353, 0.0, 0.0624), (math.pi, 0.0, -math.pi)),
    Joint("shoulder_lift", "shoulder_pan", (-0.0303992, -0.0182778, -0.0542), (-_HALF, -_HALF, 0.0)),
    Joint("elbow_flex", "shoulder_lift", (-0.11257, -0.028, 0.0), (0.0, 0.0, _HALF)),
    Joint("wrist_flex", "elbow_flex", (-0.1349, 0.0052, 0.0), (0.0, 0.0, -_HALF)),
    Joint("wrist_roll", "wrist_flex", (0.0, -0.0611, 0.0181), (_HALF, 0.0486795, math.pi)),
    Joint("gripper", "wrist_roll", (0.0202, 0.0188, -0.0234), (_HALF, 0.0, 0.0)),
)
FIXED_JAW_TIP: Vector = (-0.0079, -0.000218121, -0.0981274)
"""The URDF's gripper frame, in that of wrist_roll."""
MOVING_JAW_TIP: Vector = (-0.01233, -0.07625, 0.0189)
_ORIGIN: Vector = (0.0, 0.0, 0.0)
LIMBS = (
    Limb("base", (0.0, 0.0, 0.02), (0.0388353, 0.0, 0.0624), 0.03),
    Limb("shoulder_pan", _ORIGIN, (-0.0303992, -0.0182778, -0.0542), 0.026),
    Limb("shoulder_lift", _ORIGIN, (-0.11257, -0.028, 0.0), 0.018),
    Limb("elbow_flex", _ORIGIN, (-0.1349, 0.0052, 0.0), 0.016),
    Limb("wrist_flex", _ORIGIN, (0.0, -0.0611, 0.0181), 0.016),
    Limb("wrist_roll", _ORIGIN, (0.0, 0.0, -0.04), 0.018),
    Limb("wrist_roll", (0.0, 0.0, -0.04), FIXED_JAW_TIP, 0.008),
    Limb("gripper", (0.0, 0.0, 0.0189), MOVING_JAW_TIP, 0.008),
)


def drawn(robot_type: str) -> bool:
    """Whether such a robot is an SO-101: the SO-100's joints have the same names and other places."""
    return "so101" in robot_type.lower()


def stand_in(robot_type: str) -> str:
    """What to say where the live posture of such a robot is drawn all the same; empty for an SO-101 or no type."""
    if not robot_type or drawn(robot_type):
        return ""
    name = "SO-100" if "so100" in robot_type.lower() else robot_type
    return f"{name} drawn as SO-101: not its own shape"


def described() -> dict[str, Any]:
    """The same for the browser (static/player/pose.js): `rest` is a joint's rotation at angle 0, row after row."""
    joints = [
        {"name": joint.name, "parent": joint.parent, "xyz": joint.xyz, "rest": rotation(joint, 0.0)} for joint in JOINTS
    ]
    return {"joints": joints, "limbs": [asdict(limb) for limb in LIMBS], "gripper_rad": _GRIPPER_RAD}


def radians(names: list[str], units: list[str], values: list[float]) -> dict[str, float] | None:
    """Angles by joint; None for an arm with other joints than an SO-101's, or in units that are not known."""
    told = dict(zip(names, zip(units, values, strict=True), strict=True))
    if not all(joint.name in told for joint in JOINTS):
        return None
    angles = {joint.name: _angle(joint.name, *told[joint.name]) for joint in JOINTS}
    return {name: angle for name, angle in angles.items() if angle is not None} if None not in angles.values() else None


def _angle(name: str, unit: str, value: float) -> float | None:
    if unit == "percent" and name == "gripper":
        low, high = _GRIPPER_RAD
        return low + (high - low) * value / 100
    return {"degrees": math.radians(value), "radians": value}.get(unit)


def rotation(joint: Joint, angle_rad: float) -> Matrix:
    """Of the joint's frame in its parent's, turned by `angle_rad`; 3 x 3."""
    return multiply(from_rpy(joint.rpy), from_rpy((0.0, 0.0, angle_rad)))


def from_rpy(rpy: Vector) -> Matrix:
    """URDF's roll, pitch, yaw: Rz(yaw) Ry(pitch) Rx(roll)."""
    (sx, cx), (sy, cy), (sz, cz) = ((math.sin(angle), math.cos(angle)) for angle in rpy)
    return [
        [cz * cy, -sz * cx + cz * sy * sx, sz * sx + cz * sy * cx],
        [sz * cy, cz * cx + sz * sy * sx, -cz * sx + sz * sy * cx],
        [-sy, cy * sx, cy * cx],
    ]


def multiply(a: Matrix, b: Matrix) -> Matrix:
    return [[sum(a[i][k] * b[k][j] for k in range(3)) for j in range(3)] for i in range(3)]


def apply(matrix: Matrix, v: Vector) -> Vector:
    x, y, z = (sum(row[k] * v[k] for k in range(3)) for row in matrix)
    return x, y, z


def place(angles_rad: Mapping[str, float], joint: str, point: Vector) -> Vector:
    """Where a point of a joint's frame is in the base's frame, metres."""
    frames = {each.name: each for each in JOINTS}
    while joint != "base":
        frame = frames[joint]
        x, y, z = apply(rotation(frame, angles_rad[joint]), point)
        point = (frame.xyz[0] + x, frame.xyz[1] + y, frame.xyz[2] + z)
        joint = frame.parent
    return point


def along_y(begin: Vector, end: Vector) -> Matrix:
    """Turns the y axis, along which a cylinder is made, to the direction from `begin` to `end`."""
    dx, dy, dz = (b - a for a, b in zip(begin, end, strict=True))
    length = math.hypot(dx, dy, dz)
    y = (dx / length, dy / length, dz / length)
    least = min(range(3), key=lambda axis: abs(y[axis]))
    helper = [float(axis == least) for axis in range(3)]
    x = _normal(_cross(y, (helper[0], helper[1], helper[2])))
    z = _cross(x, y)
    return [[x[i], y[i], z[i]] for i in range(3)]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _normal(v: Vector) -> Vector:
    length = math.hypot(*v)
    return v[0] / length, v[1] / length, v[2] / length
