"""A real SO-101 through LeRobot's own SOFollower and its Feetech bus."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from lefleet_agent.config_robots import So101Follower
from lefleet_agent.episode import Action, CameraImage, Floats, MotorHealth
from lefleet_agent.robot import RobotDisconnected
from lefleet_agent.robots.driver import ArmDescription, BusFault
from lefleet_agent.robots.feetech_bus import (
    RUN_TIMEOUT_MS,
    SETUP_TIMEOUT_MS,
    alarm,
    check_port,
    connect,
    diagnosis,
    faults,
    health,
    positions,
    quieten,
    tune,
)
from lefleet_agent.robots.feetech_setup import check_calibration, check_motors, configure, hold, registers
from lefleet_agent.robots.lerobot_make import fingerprint, make, scales
from lefleet_agent.robots.motor_scale import MotorScale

if TYPE_CHECKING:
    from lerobot.motors.feetech import FeetechMotorsBus

log = structlog.get_logger()


class FeetechArm:
    """An ArmDriver. Torque comes on where the arm stands, and stays on when the bus is left."""

    def __init__(self, settings: So101Follower, robot_id: str) -> None:
        self._settings = settings
        self._robot_id = robot_id
        self._robot: Any = None
        self._scales: dict[str, MotorScale] = {}

    def describe(self) -> ArmDescription:
        robot = make(self._settings, self._robot_id)
        each = scales(robot)
        units, limits = tuple(scale.unit for scale in each.values()), tuple(scale.limits for scale in each.values())
        return ArmDescription(tuple(each), units, limits, fingerprint(robot, limits))

    def images(self) -> dict[str, CameraImage]:
        return {}

    def open(self) -> None:
        check_port(Path(self._settings.port))
        self.close()
        self._robot = make(self._settings, self._robot_id)  # a fresh one: the SDK keeps a lock when a port vanishes
        self._scales = scales(self._robot)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        bus = self._bus
        connect(bus)
        tune(bus, SETUP_TIMEOUT_MS)
        check_motors(bus)
        check_calibration(bus, self._robot.calibration_fpath, "--robot.type=so101_follower")
        configure(bus, partial(registers, self._settings))
        hold(bus, self._scales)
        tune(bus, RUN_TIMEOUT_MS)

    @property
    def _bus(self) -> "FeetechMotorsBus":
        if self._robot is None:
            raise RobotDisconnected(f"{self._settings.port}: the arm is not connected; call connect() first")
        return self._robot.bus

    def read(self) -> Floats:
        return positions(self._bus, self._scales)

    def write(self, action: Action) -> Action:
        steps = {
            joint: scale.to_steps(float(value))
            for (joint, scale), value in zip(self._scales.items(), action, strict=True)
        }
        with faults(self._bus):
            self._bus.sync_write("Goal_Position", steps, normalize=False)
        return np.array([self._scales[joint].from_steps(each) for joint, each in steps.items()], np.float32)

    def health(self, joint: str) -> MotorHealth:
        """Raises RobotError when the motor is too hot: it has let go by itself."""
        state = health(self._bus, joint)
        if "overheat" in state.alarms:
            raise alarm(self._bus, joint, state.alarms)
        return state

    def diagnosis(self) -> str:
        return diagnosis(self._bus)

    def close(self) -> None:
        robot, self._robot = self._robot, None
        if robot is None or not robot.bus.is_connected:
            return
        bus = robot.bus
        try:
            with faults(bus):
                if self._settings.torque_off_on_disconnect:
                    quieten(bus)
                    bus.disable_torque(num_retry=5)
        except (BusFault, RobotDisconnected, RuntimeError) as error:
            log.warning("torque stays on", reason=str(error))
        finally:
            bus.port_handler.closePort()
