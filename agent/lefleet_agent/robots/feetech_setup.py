"""An SO-101's motors before they may move: are they the right ones, set as they should be, and at rest."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from lefleet_agent.config_robots import So101Follower
from lefleet_agent.robot import RobotError
from lefleet_agent.robots.feetech_bus import alarm, health, missing, motor, patiently, read, silent, write
from lefleet_agent.robots.motor_scale import MotorScale

log = structlog.get_logger()

GRIPPER = "gripper"
_OUTSIDE_DEGREES = 5.0
"""How far beyond its range a joint may stand: play and a gripper that is pressed shut."""
_ANGLE_MODE_BIT = 0x10
_REGISTERS = {"homing_offset": "Homing_Offset", "range_min": "Min_Position_Limit", "range_max": "Max_Position_Limit"}


def check_motors(bus: Any) -> None:
    """Every motor answers, is of the right model, and has no alarm. Raises RobotError."""
    if lacking := silent(bus):
        raise RobotError(missing(bus, lacking))
    versions = {}
    for joint, wanted in bus.motors.items():
        state = patiently(bus, joint, partial(health, bus, joint))
        if state.alarms:
            raise alarm(bus, joint, state.alarms)
        model, expected = read(bus, "Model_Number", joint), bus.model_number_table[wanted.model]
        if model != expected:
            raise RobotError(
                f"{motor(bus, joint)} is of model {model}, not {expected} ({wanted.model}): put the right motor there"
            )
        versions[joint] = f"{read(bus, 'Firmware_Major_Version', joint)}.{read(bus, 'Firmware_Minor_Version', joint)}"
    if len(set(versions.values())) > 1:
        told = ", ".join(f"{joint} {version}" for joint, version in versions.items())
        raise RobotError(f"the motors have different firmware ({told}): update them with Feetech's FD software")


def check_calibration(bus: Any, file: Path, kind: str) -> None:
    """What each motor keeps in its EEPROM is what the file says. `kind`: as `lerobot-calibrate` takes it.

    Raises RobotError: positions would be wrong.
    """
    words = f"{kind} {kind.split('.', maxsplit=1)[0]}.port={bus.port} {kind.split('.', maxsplit=1)[0]}.id={file.stem}"
    for joint, wanted in bus.calibration.items():
        found = {field: read(bus, register, joint) for field, register in _REGISTERS.items()}
        differs = [
            f"{field} {value} (the file has {getattr(wanted, field)})"
            for field, value in found.items()
            if value != getattr(wanted, field)
        ]
        if differs:
            raise RobotError(
                f"{motor(bus, joint)} does not match {file}: its EEPROM has {', '.join(differs)}. Either the motor was "
                "replaced or the arm was calibrated again: bring the newer file (role robot_devices), or calibrate "
                f"with `lerobot-calibrate {words}`"
            )


def registers(settings: So101Follower, joint: str) -> dict[str, int]:
    """What the motor of this joint must hold; LeRobot's `configure` with the settings in its place."""
    is_gripper = joint == GRIPPER
    percent = settings.gripper_torque_limit_percent if is_gripper else settings.torque_limit_percent
    torque = round(percent * 10)
    wanted = {
        "Return_Delay_Time": 0,
        "Maximum_Acceleration": 254,
        "Acceleration": 254,
        "Operating_Mode": 0,
        "P_Coefficient": settings.p_gain,
        "I_Coefficient": settings.i_gain,
        "D_Coefficient": settings.d_gain,
        # The first is what the second becomes at power-on, so only both together limit now and later.
        "Max_Torque_Limit": torque,
        "Torque_Limit": torque,
    }
    if is_gripper:
        wanted |= {"Protection_Current": round(settings.gripper_current_limit_a / 0.0065), "Overload_Torque": 25}
    return wanted


def configure(bus: Any, registers_of: Callable[[str], dict[str, int]]) -> None:
    """Write what differs from `registers_of` each joint, with the torque as it is. Raises RobotError.

    LeRobot drops the torque and writes everything each time: an arm that held something up falls, and the EEPROM wears.
    """
    for joint in bus.motors:
        wanted = registers_of(joint)
        phase = read(bus, "Phase", joint)
        wanted["Phase"] = phase & ~_ANGLE_MODE_BIT
        differs = {name: value for name, value in wanted.items() if read(bus, name, joint) != value}
        if differs:
            _set(bus, joint, differs)


def _set(bus: Any, joint: str, values: Mapping[str, int]) -> None:
    log.info("setting a motor up", joint=joint, **values)
    write(bus, "Lock", joint, 0)
    for name, value in values.items():
        write(bus, name, joint, value)
        if (found := read(bus, name, joint)) != value:
            raise RobotError(
                f"{motor(bus, joint)} keeps {name} = {found} though {value} was written; lay the arm down, switch its "
                "power off and on, and start again"
            )
    write(bus, "Lock", joint, 1)


def hold(bus: Any, scales: Mapping[str, MotorScale]) -> None:
    """Torque on where it is off, after the goal was set to where the joint stands: nothing moves. Raises RobotError."""
    for joint, scale in scales.items():
        if read(bus, "Torque_Enable", joint):
            continue
        steps = read(bus, "Present_Position", joint)
        outside_degrees = scale.outside_steps(steps) * scale.step_degrees
        if outside_degrees > _OUTSIDE_DEGREES:
            raise RobotError(
                f"{motor(bus, joint)} stands {outside_degrees:.0f} degrees outside of its calibrated range, and would "
                "jump into it: move it there by hand, or calibrate the arm again"
            )
        write(bus, "Goal_Position", joint, steps)
        write(bus, "Torque_Enable", joint, 1)
        write(bus, "Lock", joint, 1)


def let_go(bus: Any) -> None:
    """Torque off where it is on: a person moves the arm. Raises RobotError."""
    for joint in bus.motors:
        if read(bus, "Torque_Enable", joint):
            write(bus, "Torque_Enable", joint, 0)
