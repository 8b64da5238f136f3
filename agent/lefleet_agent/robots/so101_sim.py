"""A simulated SO-101 that moves a block to a goal: MuJoCo physics here, its two cameras drawn in another process."""

import time
from functools import cached_property
from typing import Literal

from lefleet_agent.episode import Action, CameraInfo, Observation, Outcome, RobotInfo
from lefleet_agent.robot import RobotDisconnected
from lefleet_agent.robots.so101_camera import FIRST_PICTURES_S, SimulatedCameras
from lefleet_agent.robots.so101_look import VIEWS
from lefleet_agent.robots.so101_model import JOINT_NAMES, JOINT_UNITS, PHYSICS_STEP_S, JointScale, motor_ranges
from lefleet_agent.robots.so101_render import Pictures, State
from lefleet_agent.robots.so101_scene import ENVIRONMENT_SIZE, So101Scene

CAMERAS = tuple(VIEWS)
_NEW_SCENE_S = 2.0


class So101SimRobot:
    """A ResettableRobot. `send` steps the physics by one control tick and never sleeps: the loop keeps the pace.

    A renderer that dies leaves its last pictures in place (their `taken_*` say how old they are) and the arm
    goes on; the next `reset` starts another one.
    """

    def __init__(
        self,
        robot_id: str,
        width: int = 320,
        height: int = 240,
        camera_fps: float = 10.0,
        gl: Literal["osmesa", "egl"] = "osmesa",
        control_hz: float = 30.0,
        cameras: tuple[str, ...] = CAMERAS,
    ) -> None:
        """`cameras=()` renders nothing and starts no process. Raises ValueError for a rate physics cannot keep."""
        self._substeps = round(1 / (control_hz * PHYSICS_STEP_S))
        if abs(self._substeps * PHYSICS_STEP_S * control_hz - 1) > 0.01:
            raise ValueError(
                f"control_hz is {control_hz}: the simulator steps at {1 / PHYSICS_STEP_S:.0f} Hz and needs a whole "
                "number of steps for each tick; use 30, 40, 48 or 60"
            )
        self._robot_id = robot_id
        self._pictures = Pictures(cameras, width, height, camera_fps, gl)
        self._cameras = SimulatedCameras(self._pictures)
        self._scene: So101Scene | None = None
        self._states = 0

    @cached_property
    def info(self) -> RobotInfo:
        size = self._pictures.width, self._pictures.height, self._pictures.fps
        scale = JointScale(motor_ranges())
        return RobotInfo(
            robot_id=self._robot_id,
            type="so101_sim",
            joint_names=JOINT_NAMES,
            joint_units=JOINT_UNITS,
            cameras={
                name: CameraInfo(self._pictures.height, self._pictures.width, self._pictures.fps,
                                 VIEWS[name].fingerprint(*size))
                for name in self._pictures.cameras
            },
            calibration_fingerprint=scale.fingerprint(),
            joint_limits=scale.limits(),
            simulated=True,
            environment_size=ENVIRONMENT_SIZE,
        )  # fmt: skip

    @property
    def renderer_pid(self) -> int | None:
        """The process that draws; None without cameras or before `connect`."""
        return self._cameras.pid

    def connect(self) -> None:
        """Load the scene and start the renderer; takes some seconds. Raises RobotError."""
        if self._pictures.cameras:
            self._cameras.start()
        self._scene = So101Scene.load(self._substeps)
        self._scene.reset(seed=0)
        self._show()
        self._await_pictures(FIRST_PICTURES_S)

    def reset(self, seed: int) -> None:
        """A new scene, with pictures of it already there. Raises RobotError if no renderer will give any."""
        self._connected().reset(seed)
        self._show()
        if not self._pictures.cameras or self._cameras.wait_for(self._states, _NEW_SCENE_S):
            return
        self._cameras.start()
        self._show()
        self._await_pictures(FIRST_PICTURES_S)

    def observe(self) -> Observation:
        scene = self._connected()
        return Observation(scene.joints(), self._cameras.images(), time.monotonic_ns(), scene.environment())

    def send(self, action: Action) -> Action:
        """Returns the targets as the motors took them: clipped to their ranges."""
        sent = self._connected().step(action)
        self._show()
        return sent

    def outcome(self) -> Outcome:
        return Outcome.SUCCESS if self._connected().succeeded else Outcome.UNKNOWN

    def disconnect(self) -> None:
        self._cameras.stop()
        self._scene = None

    def _connected(self) -> So101Scene:
        if self._scene is None:
            raise RobotDisconnected(f"{self._robot_id}: the simulated arm is not connected; call connect() first")
        return self._scene

    def _show(self) -> None:
        self._states += 1
        pose = self._connected().pose()
        self._cameras.show(State(self._states, time.monotonic_ns(), time.time_ns(), pose))

    def _await_pictures(self, limit_s: float) -> None:
        if self._pictures.cameras and not self._cameras.wait_for(self._states, limit_s):
            raise self._cameras.failure()
