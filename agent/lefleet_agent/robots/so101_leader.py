"""A real SO-101 leader arm through LeRobot's own SOLeader and its Feetech bus."""

from pathlib import Path
from typing import Any

from lerobot.teleoperators.so_leader import SO101Leader, SO101LeaderConfig

from lefleet_agent.config_robots import So101Leader
from lefleet_agent.episode import Floats
from lefleet_agent.robot import RobotDisconnected, RobotError
from lefleet_agent.robots.feetech_bus import (
    RUN_TIMEOUT_MS,
    SETUP_TIMEOUT_MS,
    check_port,
    connect,
    diagnosis,
    positions,
    tune,
)
from lefleet_agent.robots.feetech_setup import check_calibration, check_motors, configure, let_go
from lefleet_agent.robots.lerobot_make import scales
from lefleet_agent.robots.motor_scale import MotorScale

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
_REGISTERS = {"Return_Delay_Time": 0, "Operating_Mode": 0}


class FeetechLeader:
    """A LeaderDriver. Nothing is written, and no torque taken, before the motors turned out to be those of the file:
    the robot's own arm on the wrong port would fall."""

    def __init__(self, settings: So101Leader, robot_id: str) -> None:
        self._settings = settings
        self._robot_id = robot_id
        self._leader: Any = None
        self._scales: dict[str, MotorScale] = {}

    def open(self) -> None:
        settings = self._settings
        check_port(Path(settings.port))
        self.close()
        folder = settings.calibration_dir
        name = settings.calibration_id or self._robot_id
        try:
            self._leader = SO101Leader(SO101LeaderConfig(port=settings.port, id=name, calibration_dir=folder))
        except OSError as error:  # LeRobot makes the folder where it is missing
            raise RobotError(f"leader.calibration_dir = {folder}: cannot be used: {error}") from error
        self._scales = scales(self._leader, "--teleop")
        bus = self._leader.bus
        connect(bus)
        tune(bus, SETUP_TIMEOUT_MS)
        check_motors(bus)
        check_calibration(bus, self._leader.calibration_fpath, "--teleop.type=so101_leader")
        let_go(bus)
        configure(bus, lambda joint: dict(_REGISTERS))
        tune(bus, RUN_TIMEOUT_MS)

    def read(self) -> Floats:
        return positions(self._bus, self._scales)

    def diagnosis(self) -> str:
        return diagnosis(self._bus)

    def close(self) -> None:
        leader, self._leader = self._leader, None
        if leader is not None and leader.bus.is_connected:
            leader.bus.port_handler.closePort()

    @property
    def _bus(self) -> Any:
        if self._leader is None:
            raise RobotDisconnected(f"{self._settings.port}: the leader arm is not connected; call open() first")
        return self._leader.bus
