"""lerobot-env-so101's scripted pick-and-place expert, driving the scene as a policy would: joint targets at 30 Hz."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from lerobot_env_so101.gripper import normalized_to_ctrl
from lerobot_env_so101.ik_control import control_point, roll_to_align_axis, solve_ik
from lerobot_env_so101.mujoco_env import CARTESIAN_BOUNDS, grasp_point_offset
from lerobot_env_so101.scripted import PickPlaceController
from lerobot_env_so101.scripted.pick_place import Phase

from lefleet_agent.episode import Action, Floats
from lefleet_agent.robots.so101_scene import So101Scene

STEP_M = 0.025
"""How far one unit of the expert's action moves the grasp point, every 0.1 s."""
TICKS_PER_THOUGHT = 3
FASTEST = np.array([6.0, 6.0, 6.0, 6.0, 6.0, 10.0])
"""Change of a target in one tick: 180 degrees/s, the jaw 300 %/s, which a real SO-101 can follow."""
_APPROACH_AXIS, _JAW_AXIS, _ROLL = 0, 2, 4
_STILL = (Phase.CLOSE, Phase.OPEN)
_FREE = (Phase.HOVER, Phase.TRAVERSE, Phase.RETREAT)
_NUDGE_CHANCE, _NUDGE_TICKS = 0.04, 6

type Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What the expert saw and wanted, one row a tick; only successful ones are learned from."""

    joints: Floats
    environment: Floats
    actions: Floats
    succeeded: bool


class Expert:
    """Thinks at 10 Hz in space, as its package does, and leads the joints there in equal steps at 30 Hz."""

    def __init__(self, scene: So101Scene) -> None:
        self._scene = scene
        self._site = scene.model.site("gripperframe").id
        self._roll_joint = scene.model.joint("wrist_roll").id
        self._arm = np.array([scene.model.joint(i).qposadr[0] for i in range(5)])
        self._grasp_offset = grasp_point_offset(scene.model, self._site)
        self._gripper_range = scene.model.actuator("gripper").ctrlrange

    def begin(self) -> None:
        """Forget the last episode: the scene was reset."""
        self._controller = PickPlaceController(STEP_M)
        self._point = self._grasp_point()
        self._wanted = self._scene.targets()

    @property
    def done(self) -> bool:
        return bool(self._controller.done)

    @property
    def tolerance(self) -> float:
        """How much of a disturbance it can bear: 1 in free space, little beside the block, 0 while the jaws move."""
        phase = self._controller.phase
        return 0.0 if phase in _STILL else 1.0 if phase in _FREE else 0.25

    def think(self) -> list[Action]:
        """The next targets, one a tick."""
        environment = self._scene.environment().astype(np.float64)
        seen = self._grasp_point(), environment[:3], environment[3:]
        if self._controller.phase in _STILL:
            # Its waits are long, and a policy that sees no velocity cannot tell their start from their end.
            self._controller.act(*seen)
        *direction, grasp = self._controller.act(*seen)
        moved = np.asarray(direction, dtype=np.float64) * STEP_M
        self._point = np.clip(self._point + moved, *CARTESIAN_BOUNDS) if moved.any() else self._grasp_point()
        before = self._wanted
        step = np.clip((self._solve(float(grasp)) - before) / TICKS_PER_THOUGHT, -FASTEST, FASTEST)
        self._wanted = (before + step * TICKS_PER_THOUGHT).astype(np.float32)
        return [(before + step * (k + 1)).astype(np.float32) for k in range(TICKS_PER_THOUGHT)]

    def _grasp_point(self) -> Vector:
        point: Vector = control_point(self._scene.data, self._site, self._grasp_offset)
        return point

    def _solve(self, grasp: float) -> Floats:
        """Joint targets that bring the point between the jaws to where it should be, gripper straight down."""
        model, data = self._scene.model, self._scene.data
        seed = data.qpos[self._arm].copy()
        seed[_ROLL] += roll_to_align_axis(data, self._site, self._roll_joint, _JAW_AXIS, np.array([0.0, 1, 0]))
        seed[_ROLL] = np.clip(seed[_ROLL], *model.jnt_range[self._roll_joint])
        angles = solve_ik(
            model, data, self._site, self._arm, self._point,
            seed_q=seed, point_offset=self._grasp_offset, approach_axis=_APPROACH_AXIS,
        )  # fmt: skip
        jaw = normalized_to_ctrl(grasp, self._gripper_range)
        return self._scene.scale.from_radians(np.append(angles, jaw))


class Disturbance:
    """Pushes the arm off the expert's path: now and then a nudge of a fifth of a second, and always a slow drift."""

    def __init__(self, nudge_deg: float, random: np.random.Generator) -> None:
        self._nudge_deg, self._drift_deg, self._random = nudge_deg, nudge_deg / 6, random
        self._drift, self._nudge, self._left = np.zeros(6), np.zeros(6), 0

    def next(self) -> Vector:
        """Degrees to add to this tick's targets, shape (6,); the jaw is left alone."""
        arm = slice(0, 5)
        self._drift[arm] = 0.9 * self._drift[arm] + self._random.normal(0, 0.44 * self._drift_deg, 5)
        if not self._left and self._random.random() < _NUDGE_CHANCE:
            self._nudge[arm], self._left = self._random.normal(0, self._nudge_deg, 5), _NUDGE_TICKS
        self._left = max(0, self._left - 1)
        return self._drift + self._nudge * (self._left > 0)


def demonstrate(scene: So101Scene, seed: int, nudge_deg: float, ticks: int = 300) -> Demonstration:
    """One episode. The arm is disturbed while the record keeps what the expert wanted:
    how it gets back is what a policy must learn (DART, arXiv:1703.09327)."""
    scene.reset(seed)
    expert, disturbance = Expert(scene), Disturbance(nudge_deg, np.random.default_rng([seed, 1]))
    expert.begin()
    joints: list[Floats] = []
    environment: list[Floats] = []
    actions: list[Action] = []
    tail = 15
    while len(actions) < ticks and tail > 0:
        for action in expert.think():
            joints.append(scene.joints())
            environment.append(scene.environment())
            actions.append(action)
            scene.step((action + expert.tolerance * disturbance.next()).astype(np.float32))
            tail -= scene.succeeded
    return Demonstration(np.array(joints), np.array(environment), np.array(actions), scene.succeeded)
