"""The arm's posture in three dimensions, from its URDF's joints: capsules for its links, its meshes are large."""

from collections.abc import Mapping

from nicegui import ui
from nicegui.elements.scene import Scene
from nicegui.elements.scene.objects.group import Group
from nicegui.elements.scene.objects.line import Line
from nicegui.events import GenericEventArguments

from lefleet_server.dashboard import so101_pose as pose
from lefleet_server.dashboard.parts import Text, box, set_attribute

_UNREAD = "Nobody reads the arm now."
_UNKNOWN = "Only an SO-101's kinematics are known here."
_LINK, _JAW, _JOINT, _BASE = "#8b85ff", "#f2b455", "#3a4250", "#6c7684"
_GROUND, _FLOOR = {True: "#07090c", False: "#e6e9ee"}, {True: "#323a46", False: "#b4bcc8"}
"""By whether the page is dark."""


class ArmScene:
    """Built once, moved when the joints are told. Shows nothing but a sentence until then, or for another arm."""

    def __init__(self, *, dark: bool) -> None:
        self._shown: Mapping[str, float] | None = None
        with box("lf-arm") as self._place:
            self._said = Text("", "lf-muted lf-arm-said")
            self._caption = Text("", "lf-muted lf-arm-caption")
            with ui.scene(width=480, height=340, grid=False, background_color=_GROUND[dark], fps=10) as scene:
                self._scene: Scene = scene
                self._frames: dict[str, Group] = {}
                self._floor: list[Line] = []
                self._build_floor(_FLOOR[dark])
                self._build("base")
            box(tag="lf-theme").on("theme", self._recolour, ["detail"])
            scene.classes("lf-arm-scene")
            scene.move_camera(x=0.36, y=-0.42, z=0.3, look_at_x=0.12, look_at_y=0, look_at_z=0.09, duration=0)

    def show_type(self, robot_type: str) -> None:
        """Says so where another arm than an SO-101 is drawn as one."""
        self._caption.show(pose.stand_in(robot_type))

    def show(self, joints: Mapping[str, list[str] | list[float]] | None) -> None:
        """`joints`: names, units and values, as in a heartbeat."""
        angles = pose.radians(joints["names"], joints["units"], joints["values"]) if joints else None  # type: ignore[arg-type]
        self._said.show("" if angles else _UNREAD if joints is None else _UNKNOWN)
        self._said.set_visibility(angles is None)
        self._caption.set_visibility(angles is not None)
        # Never hidden: three.js takes its size when it is first shown.
        set_attribute(self._place, "data-known", "yes" if angles or (self._shown and joints is None) else "no")
        if angles and angles != self._shown:
            for joint in pose.JOINTS:
                self._frames[joint.name].rotate_R(pose.rotation(joint, angles[joint.name]))
            self._shown = angles

    def _recolour(self, event: GenericEventArguments) -> None:
        """The viewer switched to dark (True) or light (False)."""
        dark = event.args["detail"] is True
        for line in self._floor:
            line.material(_FLOOR[dark])
        self._scene.client.run_javascript(f'getElement({self._scene.id}).renderer.setClearColor("{_GROUND[dark]}")')

    def _build_floor(self, color: str) -> None:
        """Lines 10 cm apart, as far as the arm reaches."""
        reach = [number / 10 for number in range(-4, 5)]
        for at in reach:
            self._floor.append(ui.scene.line([at, reach[0], 0], [at, reach[-1], 0]).material(color))
            self._floor.append(ui.scene.line([reach[0], at, 0], [reach[-1], at, 0]).material(color))

    def _build(self, name: str) -> None:
        for limb in pose.LIMBS:
            if limb.joint == name:
                self._capsule(limb)
        for joint in pose.JOINTS:
            if joint.parent == name:
                with ui.scene.group().move(*joint.xyz).rotate_R(pose.rotation(joint, 0.0)) as frame:
                    self._frames[joint.name] = frame
                    ui.scene.sphere(0.02).material(_JOINT)
                    self._build(joint.name)

    def _capsule(self, limb: pose.Limb) -> None:
        color = _BASE if limb.joint == "base" else _JAW if limb.radius_m < 0.01 else _LINK
        length = sum((b - a) ** 2 for a, b in zip(limb.begin, limb.end, strict=True)) ** 0.5
        middle = [(a + b) / 2 for a, b in zip(limb.begin, limb.end, strict=True)]
        body = ui.scene.cylinder(limb.radius_m, limb.radius_m, length, 20).material(color)
        body.move(*middle).rotate_R(pose.along_y(limb.begin, limb.end))
        for end in (limb.begin, limb.end):
            ui.scene.sphere(limb.radius_m).move(*end).material(color)
