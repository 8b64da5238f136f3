"""LeRobot's robots from their own config classes; nothing here touches hardware or asks anybody."""

import hashlib
import importlib
import json
import pkgutil
from typing import Any

import draccus
import lerobot.robots
import structlog
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.utils.import_utils import register_third_party_plugins

from lefleet_agent.config_robots import LeRobotRobot, So101Follower
from lefleet_agent.robot import RobotError
from lefleet_agent.robots.motor_scale import MotorScale

log = structlog.get_logger()

_KEEP_TORQUE = "disable_torque_on_disconnect"


def make(settings: So101Follower | LeRobotRobot, robot_id: str) -> Any:
    """A LeRobot Robot, not connected. Reads its calibration file. Raises RobotError."""
    kind = settings.type if isinstance(settings, So101Follower) else settings.lerobot_type
    config_class = find(kind)
    values: dict[str, Any] = {"port": settings.port} if isinstance(settings, So101Follower) else dict(settings.config)
    fields = getattr(config_class, "__dataclass_fields__", {})
    values |= {"id": settings.calibration_id or robot_id}
    if settings.calibration_dir:
        values["calibration_dir"] = str(settings.calibration_dir)
    if _KEEP_TORQUE in fields:  # LeRobot lets go by default, also when the object is collected
        values[_KEEP_TORQUE] = settings.torque_off_on_disconnect
    try:
        return make_robot_from_config(draccus.decode(config_class, values))
    except (draccus.utils.ParsingError, ValueError, TypeError, OSError, ImportError) as error:
        raise RobotError(f"LeRobot cannot make a {kind} of {values}: {error}") from error


def find(kind: str) -> Any:
    """The config class of this name: LeRobot's own robots first, then plugins. Raises RobotError."""
    for discover in (lambda: None, _import_own, register_third_party_plugins):
        discover()
        if kind in RobotConfig.get_known_choices():
            return RobotConfig.get_choice_class(kind)
    known = ", ".join(sorted(RobotConfig.get_known_choices()))
    raise RobotError(
        f"LeRobot knows no robot {kind}; it knows {known}. A plugin must be installed here, under a name that starts "
        "with `lerobot_robot_`, underscores included"
    )


def _import_own() -> None:
    for module in pkgutil.iter_modules(lerobot.robots.__path__, "lerobot.robots."):
        try:
            importlib.import_module(module.name)
        except ImportError as error:  # of an extra that this robot does not need
            log.debug("a robot of LeRobot cannot be imported", module=module.name, reason=str(error))


def scales(robot: Any, flag: str = "--robot") -> dict[str, MotorScale]:
    """Of each joint whose motor LeRobot calibrates; empty for robots without such a bus. Raises RobotError.

    `flag`: with what `lerobot-calibrate` is told of such an arm.
    """
    bus = getattr(robot, "bus", None)
    motors = getattr(bus, "motors", None)
    if not motors or not hasattr(bus, "calibration"):
        return {}
    file, calibration = robot.calibration_fpath, robot.calibration
    if not calibration:
        raise RobotError(
            f"{file}: there is no such calibration file; bring it with role robot_devices (robot_devices_calibrations) "
            f"or calibrate the arm: `lerobot-calibrate {flag}.type=... {flag}.id={file.stem}`"
        )
    return {joint: _scale(bus, joint, calibration, file) for joint in motors}


def _scale(bus: Any, joint: str, calibration: Any, file: Any) -> MotorScale:
    motor = bus.motors[joint]
    known = calibration.get(joint)
    if known is None or known.id != motor.id or known.range_min >= known.range_max:
        why = "is missing" if known is None else f"has id {known.id}, range {known.range_min} to {known.range_max}"
        raise RobotError(
            f"{file}: joint {joint} {why}; it needs id {motor.id} and a range: is it the file of another kind of robot?"
        )
    turn = bus.model_resolution_table[motor.model]
    return MotorScale(known.range_min, known.range_max, motor.norm_mode.value, bool(known.drive_mode), turn)


def fingerprint(robot: Any, otherwise: object) -> str:
    """SHA-256 of its calibration file; of `otherwise` (JSON) for a robot that has none."""
    file = robot.calibration_fpath
    return hashlib.sha256(file.read_bytes() if file.is_file() else json.dumps(otherwise).encode()).hexdigest()
