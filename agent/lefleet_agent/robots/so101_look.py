"""How the simulated scene looks: its cameras, lights and colours, with meshes light enough to draw on a CPU."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import mujoco
import numpy as np

from lefleet_agent.robots.decimate import decimate, read_stl
from lefleet_agent.robots.so101_model import scene_file

MESH_CELL_M = 0.003
GOAL = "goal"
_PLASTIC = (1.0, 0.74, 0.18, 1)
_BACKGROUND = (0.93, 0.94, 0.95)


@dataclass(frozen=True, slots=True)
class View:
    """A camera: fixed to a body, at `position_m`, looking at `target_m`, both in that body's frame."""

    body: str
    position_m: tuple[float, float, float]
    target_m: tuple[float, float, float]
    up: tuple[float, float, float]
    fovy_deg: float

    def fingerprint(self, width: int, height: int, fps: float) -> str:
        """Changes with the camera, its pictures, or the scene's model."""
        model = hashlib.sha256(scene_file().read_bytes()).hexdigest()
        what = {"view": asdict(self), "width": width, "height": height, "fps": fps, "model": model}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


VIEWS = {
    "front": View("world", (0.60, -0.34, 0.36), (0.17, 0.0, 0.085), (0, 0, 1), 42),
    "wrist": View("gripper", (0.0, 0.075, -0.02), (-0.004, 0.0, -0.11), (0, 0, -1), 62),
}


def picture_model(width: int, height: int) -> Any:
    """The scene as MuJoCo draws it: no collision shapes, no antialiasing, the goal as a mat that can be moved."""
    spec = mujoco.MjSpec.from_file(str(scene_file()))
    for geom in list(spec.geoms):
        if geom.classname.name == "collision":
            spec.delete(geom)
    _lighten(spec)
    _furnish(spec)
    for name, view in VIEWS.items():
        _add_camera(spec, name, view)
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height
    return spec.compile()


def _lighten(spec: Any) -> None:
    """322,000 triangles become about 20,000: most were the roundings of screw holes."""
    for mesh in spec.meshes:
        light = decimate(read_stl(scene_file().parent / spec.meshdir / mesh.file), MESH_CELL_M)
        mesh.name, mesh.file = mesh.name or mesh.file.removesuffix(".stl"), ""
        mesh.uservert, mesh.userface = light.vertices.ravel(), light.faces.ravel()


def _furnish(spec: Any) -> None:
    """A plain bench under soft light, the goal as a mat on it, and colours that a camera would see."""
    for light in list(spec.lights):
        spec.delete(light)
    table, goal = spec.worldbody, spec.worldbody.add_body(name=GOAL, mocap=True)
    table.add_light(pos=[0.5, -0.5, 1.2], dir=[-0.35, 0.5, -1.1], diffuse=[0.45] * 3, specular=[0.1] * 3,
                    type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=False)  # fmt: skip
    table.add_light(pos=[0.2, 0.8, 0.8], dir=[0, -0.8, -0.7], diffuse=[0.15] * 3, specular=[0] * 3,
                    type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=False)  # fmt: skip
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.42] * 3, [0.22] * 3
    spec.visual.headlight.specular = [0.0] * 3
    goal.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.03, 0.0008, 0], rgba=[0.16, 0.62, 0.46, 1],
                  contype=0, conaffinity=0)  # fmt: skip
    spec.geom("block").rgba = [0.86, 0.20, 0.24, 1]
    for texture in spec.textures:
        if texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            texture.rgb1, texture.rgb2, texture.height, texture.width = _BACKGROUND, _BACKGROUND, 32, 32
        else:
            texture.rgb1, texture.rgb2 = [0.80, 0.79, 0.77], [0.74, 0.73, 0.71]
    for material in spec.materials:
        if material.name == "grid":
            material.texrepeat = [10, 10]
        elif material.rgba[0] > 0.5:
            material.rgba = _PLASTIC


def _add_camera(spec: Any, name: str, view: View) -> None:
    camera = spec.camera(name) or spec.body(view.body).add_camera(name=name)
    position, target, up = (np.array(v, dtype=float) for v in (view.position_m, view.target_m, view.up))
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(back, right), back], axis=1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    camera.pos, camera.quat, camera.fovy = position, quaternion, view.fovy_deg
