"""The Robot of control for a real arm: its bus thread, its camera threads, and nothing that waits for either."""

from functools import cached_property

import structlog

from lefleet_agent.episode import Action, ArmHealth, CameraImage, CameraInfo, Observation, Outcome, RobotInfo
from lefleet_agent.robot import RobotDisconnected, RobotError
from lefleet_agent.robots.arm_thread import ArmThread
from lefleet_agent.robots.camera import CameraError, CameraThread
from lefleet_agent.robots.driver import ArmDriver

log = structlog.get_logger()


class RealArm:
    """A ResettableRobot: `reset` moves nothing, a person sets the scene, but it reconnects an arm that was lost."""

    def __init__(
        self,
        robot_id: str,
        kind: str,
        driver: ArmDriver,
        cameras: dict[str, tuple[CameraThread, CameraInfo]],
        bus_hz: float,
        bus_silence_s: float,
        first_picture_s: float = 10.0,
    ) -> None:
        self._robot_id = robot_id
        self._kind = kind
        self._driver = driver
        self._cameras = {name: thread for name, (thread, _) in cameras.items()}
        self._camera_infos = {name: info for name, (_, info) in cameras.items()}
        self._bus_hz = bus_hz
        self._bus_silence_s = bus_silence_s
        self._first_picture_s = first_picture_s
        self._arm: ArmThread | None = None
        self._health = ArmHealth({}, {}, 0, 0, 0)

    @cached_property
    def info(self) -> RobotInfo:
        """Reads the calibration file. Raises RobotError when it is missing or does not fit."""
        arm = self._driver.describe()
        return RobotInfo(
            robot_id=self._robot_id,
            type=self._kind,
            joint_names=arm.joint_names,
            joint_units=arm.joint_units,
            joint_limits=arm.joint_limits,
            cameras=arm.cameras | self._camera_infos,
            calibration_fingerprint=arm.calibration_fingerprint,
            simulated=False,
        )

    def connect(self) -> None:
        """Open the arm and its cameras; the arm holds where it stands. Raises RobotError."""
        for camera in self._cameras.values():
            camera.start()
        try:
            self._connect_arm()
            for camera in self._cameras.values():
                camera.wait(self._first_picture_s)
        except CameraError as error:
            self.disconnect()
            raise RobotError(str(error)) from error
        except RobotError:
            self.disconnect()
            raise

    def observe(self) -> Observation:
        reading = self._connected().newest()
        return Observation(reading.joints, self._images(), reading.monotonic_ns)

    def _images(self) -> dict[str, CameraImage]:
        newest = {name: camera.image() for name, camera in self._cameras.items()}
        return self._driver.images() | {name: image for name, image in newest.items() if image is not None}

    def send(self, action: Action) -> Action:
        return self._connected().send(action)

    def reset(self, seed: int) -> None:
        """Moves nothing. An arm that was lost is connected again. Raises RobotError."""
        del seed
        try:
            self._connected().newest()
        except RobotError as error:
            log.warning("connecting the arm again", reason=str(error))
            self._connect_arm()

    def outcome(self) -> Outcome:
        """Only a person or a judge of its own can tell."""
        return Outcome.UNKNOWN

    def health(self) -> ArmHealth:
        """How the motors and the bus are; as last known while the arm is not connected."""
        if self._arm:
            self._health = self._arm.health()
        return self._health

    def disconnect(self) -> None:
        """The motors go on holding, unless the settings say otherwise."""
        self._leave_arm()
        for camera in self._cameras.values():
            camera.stop()

    def _connect_arm(self) -> None:
        self._leave_arm()
        self._driver.open()
        arm = ArmThread(self._driver, self.info.joint_names, self._bus_hz, self._bus_silence_s, self._health)
        self._arm = arm
        try:
            arm.start()
        except RobotError:
            self._leave_arm()
            raise

    def _leave_arm(self) -> None:
        if self._arm:
            self.health()
            self._arm.stop()
            self._arm = None
        self._driver.close()

    def _connected(self) -> ArmThread:
        if self._arm is None:
            raise RobotDisconnected(f"{self._robot_id}: the arm is not connected; call connect() first")
        return self._arm
