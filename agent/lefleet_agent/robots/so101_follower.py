"""A real SO-101 through LeRobot's own SOFollower and its Feetech bus."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from lefleet_agent.config import So101Follower
from lefleet_agent.episode import Action, CameraImage, Floats, MotorHealth
from lefleet_agent.robot import RobotDisconnected, RobotError
from lefleet_agent.robots.driver import ArmDescription, BusFault
from lefleet_agent.robots.feetech_bus import (
    RUN_TIMEOUT_MS,
    SETUP_TIMEOUT_MS,
    alarm,
    faults,
    health,
    missing,
    quieten,
    silent,
    tune,
)
from lefleet_agent.robots.feetech_setup import check_calibration, check_motors, configure, hold
from lefleet_agent.robots.lerobot_make import fingerprint, make, scales
from lefleet_agent.robots.motor_scale import MotorScale

if TYPE_CHECKING:
    from lerobot.motors.feetech import FeetechMotorsBus

log = structlog.get_logger()

_POSITION_BYTES = 2


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
        port = Path(self._settings.port)
        if not port.exists():
            raise RobotDisconnected(
                f"{port}: there is no such port; is the arm's USB cable plugged in? `lefleet-devices report` on the "
                "robot says what is"
            )
        self.close()
        self._robot = make(self._settings, self._robot_id)  # a fresh one: the SDK keeps a lock when a port vanishes
        self._scales = scales(self._robot)
        try:
            self._bus.connect(handshake=False)  # LeRobot's gives up at one lost packet, and names no motor
        except ConnectionError as error:
            raise RobotError(
                f"{port}: cannot be opened ({error.__context__ or error}); the agent must be in the group `dialout`, "
                "and no other program may use the arm"
            ) from error
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        bus = self._bus
        tune(bus, SETUP_TIMEOUT_MS)
        check_motors(bus)
        check_calibration(bus, self._robot.calibration_fpath)
        configure(bus, self._settings)
        hold(bus, self._scales)
        tune(bus, RUN_TIMEOUT_MS)

    @property
    def _bus(self) -> "FeetechMotorsBus":
        if self._robot is None:
            raise RobotDisconnected(f"{self._settings.port}: the arm is not connected; call connect() first")
        return self._robot.bus

    def read(self) -> Floats:
        bus = self._bus
        quieten(bus)
        with faults(bus, lambda: next(iter(self._unanswered(bus)), None)):
            steps = bus.sync_read("Present_Position", normalize=False)
        if broken := self._unanswered(bus):  # the SDK reads a short answer as position 0
            quieten(bus)
            raise BusFault(f"{broken[0]}: its answer is too short", broken[0])
        return np.array([scale.from_steps(int(steps[joint])) for joint, scale in self._scales.items()], np.float32)

    def _unanswered(self, bus: "FeetechMotorsBus") -> list[str]:
        """Joints without an answer of the right length to the last reading, the first of the chain first."""
        answers = bus.sync_reader.data_dict
        return [joint for joint, each in bus.motors.items() if len(answers.get(each.id, ())) != _POSITION_BYTES]

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
        bus = self._bus
        lacking = silent(bus)
        return (
            missing(bus, lacking) if lacking else f"{bus.port}: too many answers are lost or broken; check the cables"
        )

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
