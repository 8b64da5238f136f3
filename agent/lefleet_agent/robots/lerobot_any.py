"""Any robot that LeRobot drives, through LeRobot's Robot interface alone."""

import hashlib
import json
import time
from typing import Any

import numpy as np
import structlog

from lefleet_agent.config_robots import LeRobotRobot
from lefleet_agent.episode import Action, CameraImage, CameraInfo, Floats, MotorHealth
from lefleet_agent.robot import RobotDisconnected, RobotError
from lefleet_agent.robots.driver import ArmDescription, BusFault
from lefleet_agent.robots.lerobot_make import fingerprint, make, scales
from lefleet_agent.robots.no_prompt import no_prompt

log = structlog.get_logger()

_POSITION = ".pos"


class AnyArm:
    """An ArmDriver. What the arm does while it is connected is up to its LeRobot class.

    Its `config` may name cameras of LeRobot's: they have no time of their own, so their pictures carry the time at
    which they came here, and a camera that freezes fails the reading. The settings' `cameras` do better.
    """

    def __init__(self, settings: LeRobotRobot, robot_id: str) -> None:
        self._settings = settings
        self._robot_id = robot_id
        self._robot: Any = None
        self._images: dict[str, CameraImage] = {}
        self._keys: tuple[str, ...] = ()

    @property
    def _kind(self) -> str:
        return self._settings.lerobot_type

    def describe(self) -> ArmDescription:
        robot = make(self._settings, self._robot_id)
        names = tuple(key.removesuffix(_POSITION) for key in robot.action_features)
        of_bus, given = scales(robot), self._settings.joints
        lacking = [name for name in names if name not in of_bus and name not in given]
        strange = [name for name in given if name not in names]
        if lacking or strange:
            raise RobotError(
                f"robot.joints must give the range of {', '.join(lacking) or 'no joint'}"
                + (f" and not name {', '.join(strange)}" if strange else "")
                + f": {self._kind} has joints {', '.join(names)}"
            )
        limits = tuple((given[n].low, given[n].high) if n in given else of_bus[n].limits for n in names)
        units = tuple(given[n].unit if n in given else of_bus[n].unit for n in names)
        return ArmDescription(names, units, limits, fingerprint(robot, [names, limits, units]), self._cameras(robot))

    def _cameras(self, robot: Any) -> dict[str, CameraInfo]:
        shapes = {name: shape for name, shape in robot.observation_features.items() if isinstance(shape, tuple)}
        cameras = getattr(robot, "cameras", {})
        found = {}
        for name, (height, width, _) in shapes.items():
            fps = float(getattr(cameras.get(name), "fps", None) or 30.0)
            words = json.dumps([self._kind, name, height, width, fps, str(self._settings.config.get("cameras"))])
            found[name] = CameraInfo(height, width, fps, hashlib.sha256(words.encode()).hexdigest())
        return found

    def open(self) -> None:
        self.close()
        robot = make(self._settings, self._robot_id)
        try:
            with no_prompt(self._kind):
                robot.connect(calibrate=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise RobotError(f"{self._kind} cannot be connected: {error}") from error
        self._robot, self._keys = robot, tuple(robot.action_features)
        if not robot.is_calibrated:
            self.close()
            raise RobotError(
                f"{self._kind} {robot.id} is not calibrated, or {robot.calibration_fpath} is not the file of these "
                f"motors: run `lerobot-calibrate --robot.type={self._kind} --robot.id={robot.id}` by hand"
            )

    def read(self) -> Floats:
        try:
            with no_prompt(self._kind):
                seen = self._connected().get_observation()
        except (ConnectionError, TimeoutError) as error:
            raise BusFault(str(error)) from error
        except OSError as error:
            raise RobotDisconnected(f"{self._kind}: its port is gone: {error}") from error
        self._images = {key: self._image(key, value) for key, value in seen.items() if np.ndim(value) == 3}
        return np.array([seen[key] for key in self._keys], np.float32)

    def _image(self, name: str, rgb: Any) -> CameraImage:
        last = self._images.get(name)
        if last is not None and (rgb is last.rgb or np.array_equal(rgb, last.rgb)):
            return last
        return CameraImage(last.seq + 1 if last else 1, time.monotonic_ns(), time.time_ns(), rgb)

    def images(self) -> dict[str, CameraImage]:
        return self._images

    def write(self, action: Action) -> Action:
        wanted = dict(zip(self._keys, map(float, action), strict=True))
        try:
            with no_prompt(self._kind):
                sent = self._connected().send_action(wanted)
        except (ConnectionError, TimeoutError) as error:
            raise BusFault(str(error)) from error
        except OSError as error:
            raise RobotDisconnected(f"{self._kind}: its port is gone: {error}") from error
        return np.array([sent.get(key, wanted[key]) for key in self._keys], np.float32)

    def health(self, joint: str) -> MotorHealth | None:
        """LeRobot's Robot cannot be asked."""
        del joint
        return None

    def diagnosis(self) -> str:
        return f"{self._kind} does not answer any more; check its power supply and its cables"

    def close(self) -> None:
        robot, self._robot = self._robot, None
        if robot is None:
            return
        try:
            with no_prompt(self._kind):
                robot.disconnect()
        except (OSError, RuntimeError, RobotError) as error:
            log.warning("it was not disconnected in order", robot=self._kind, reason=str(error))

    def _connected(self) -> Any:
        if self._robot is None:
            raise RobotDisconnected(f"{self._kind}: it is not connected; call connect() first")
        return self._robot
