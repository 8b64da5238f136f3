"""Draws the scene. For a process of its own: OpenGL contexts in one process get in each other's way."""

from importlib import import_module

import mujoco
import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import Pixels
from lefleet_agent.robots.so101_look import GOAL, picture_model

_COSTLY = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)
_MAT_Z_M = 0.0008
_MOST_SHAPES = 100


class Drawing:
    """An OpenGL context with the scene in it."""

    def __init__(self, cameras: tuple[str, ...], width: int, height: int, gl: str) -> None:
        self._model = picture_model(width, height)
        self._data = mujoco.MjData(self._model)
        self._goal = self._model.body(GOAL).mocapid[0]
        # Not mujoco.Renderer: it takes its back end from the environment as it was when MuJoCo was first
        # imported, and a spawned process imports its parent's main module, MuJoCo perhaps included, before us.
        self._gl = import_module(f"mujoco.{gl}").GLContext(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(self._model, _MOST_SHAPES)
        for flag in _COSTLY:  # shadows alone would treble the cost of a picture
            self._scene.flags[flag] = 0
        self._options, self._perturbation = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._views = [self._view(name) for name in cameras]
        self._frame = mujoco.MjrRect(0, 0, width, height)
        self._bottom_up = np.empty((height, width, 3), np.uint8)

    def draw(self, pose: npt.NDArray[np.float64], into: Pixels) -> None:
        """`pose`: qpos, then the goal's xyz. `into`: shape (cameras, height, width, 3)."""
        self._data.qpos[:] = pose[: self._model.nq]
        self._data.mocap_pos[self._goal] = (*pose[self._model.nq :][:2], _MAT_Z_M)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        for view, pixels in zip(self._views, into, strict=True):
            mujoco.mjv_updateScene(
                self._model, self._data, self._options, self._perturbation, view, everything, self._scene
            )
            mujoco.mjr_render(self._frame, self._scene, self._context)
            mujoco.mjr_readPixels(self._bottom_up, None, self._frame, self._context)
            pixels[:] = self._bottom_up[::-1]

    def _view(self, name: str) -> mujoco.MjvCamera:
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._model.camera(name).id
        return view
