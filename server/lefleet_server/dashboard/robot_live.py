"""The robot's page, what changes each second: state, stop, cameras, posture, joints, motors, numbers."""

from typing import Any
from urllib.parse import quote

from nicegui import ui

from lefleet_server.dashboard.alerts_line import AlertsUnknown, chips
from lefleet_server.dashboard.arm_scene import ArmScene
from lefleet_server.dashboard.parts import STATE_TONES, Chip, Meter, Text, Time, box, icon, link, set_attribute
from lefleet_server.dashboard.stop import Stopper, StopRow
from lefleet_server.robots.motors import Arm, Motor
from lefleet_server.robots.state import FULL, HOT_C, LATE_MS, NEARLY_FULL, WARM_C, RobotState, level
from lefleet_server.units import DASH, lasting, number, size

_RANGES = {"degrees": (-180.0, 180.0), "percent": (0.0, 100.0), "radians": (-3.1416, 3.1416)}
_UNITS = {"degrees": "°", "percent": " %", "radians": " rad"}
_MOTOR_COLUMNS = ("Joint", "Temperature", "Voltage", "Current", "Load", "Errors")


class RobotHead:
    """The title line: which robot, how it is, and its emergency stop."""

    def __init__(self, robot: RobotState, stopper: Stopper) -> None:
        with box("lf-head", tag="header"):
            with box("lf-head-text"):
                with link("/", "lf-back"):
                    icon("previous")
                    Text("Fleet", tag="span")
                with box("lf-title"):
                    Text(robot.id, tag="h1")
                    self._chip = Chip("", "")
                with box("lf-sub"):
                    self._line = Text("", tag="span")
                    Text(" · seen ", tag="span")
                    self._seen = Time(robot.seen_at, "ago")
                self._issues = box("lf-issues lf-robot-issues")
                self._unknown = AlertsUnknown()
            with box("lf-actions lf-robot-stop", data_robot=robot.id):
                self._stop = StopRow(stopper, robot.id)
        self._told: tuple[Any, ...] | None = None

    def show(self, robot: RobotState) -> None:
        self._chip.set(robot.state.replace("_", " ").capitalize(), STATE_TONES.get(robot.state, ""))
        self._line.show(robot.line)
        self._seen.set(robot.seen_at)
        self._stop.show(robot.stop, robot.online)
        self._stop.set_visibility(not robot.retired)
        self._unknown.show(robot.alerts_unknown_since)
        if robot.issues != self._told:
            self._told = robot.issues
            chips(self._issues, robot.issues if robot.online else robot.issues[1:])  # the chip says offline


class Cameras:
    """The newest picture of each camera, about once a second."""

    def __init__(self, robot_id: str) -> None:
        self._id = robot_id
        self._shown: tuple[tuple[str, bool], ...] | None = None
        self._grid = box("lf-card lf-cameras lf-robot-cameras")

    def show(self, robot: RobotState) -> None:
        if robot.cameras == self._shown:
            return
        self._shown = robot.cameras
        self._grid.set_visibility(bool(robot.cameras))
        self._grid.clear()
        with self._grid:
            for name, has_picture in robot.cameras:
                camera = box(tag="lf-camera", name=name)
                if has_picture:
                    camera.props["src"] = f"/api/v1/robots/{quote(self._id)}/cameras/{quote(name)}.jpg"


class Joints:
    """The arm's posture, and each joint as a number and a bar."""

    def __init__(self, *, dark: bool) -> None:
        self._rows: dict[str, tuple[Text, ui.element]] = {}
        with box("lf-card lf-panel lf-joints", tag="section"):
            Text("Joints", tag="h2")
            with box("lf-joints-both"):
                self._scene = ArmScene(dark=dark)
                self._list = box("lf-joints-list")

    def show_type(self, robot_type: str) -> None:
        self._scene.show_type(robot_type)

    def show(self, robot: RobotState) -> None:
        joints = robot.said.get("joints") if robot.online else None
        self._scene.show(joints)
        self._list.set_visibility(bool(joints))
        if not joints:
            return
        if list(self._rows) != joints["names"]:
            self._list.clear()
            with self._list:
                self._rows = {name: self._build(name) for name in joints["names"]}
        for name, unit, value in zip(joints["names"], joints["units"], joints["values"], strict=True):
            text, mark = self._rows[name]
            text.show(f"{number(value)}{_UNITS.get(unit, f' {unit}')}")
            low, high = _RANGES.get(unit, (-180.0, 180.0))
            mark.style(f"left: {100 * min(max((value - low) / (high - low), 0), 1):.1f}%")

    def _build(self, name: str) -> tuple[Text, ui.element]:
        with box("lf-joint", data_joint=name):
            Text(name.replace("_", " "), "lf-muted", tag="span")
            text = Text("", "lf-num", tag="b")
            with box("lf-joint-bar"):
                return text, box(tag="i")


_NUMBERS = (
    "Policy", "Release", "Rate held", "Lateness p99", "To upload", "Agent", "Policies run on", "Hardware", "System",
    "Host at", "Host up for", "Drift", "Site",
)  # fmt: skip


class Numbers:
    """Rate, lateness, spool, disk, policy and versions."""

    def __init__(self) -> None:
        with box("lf-card lf-panel", tag="section"):
            Text("Now", tag="h2")
            with box("lf-provenance", tag="dl"):
                self._values = {name: self._value(name) for name in _NUMBERS}
            with box("lf-bars lf-robot-bars"):
                self._spool, self._spool_text = self._bar("Spool")
                self._disk, self._disk_text = self._bar("Disk")

    def show(self, robot: RobotState) -> None:
        said = robot.said
        self._show("Policy", f"{robot.repo} · {robot.policy_type.upper()}" if robot.repo else "No policy")
        self._show("Release", robot.commit or DASH)
        self._show("Rate held", f"{number(robot.hz)} Hz")
        late = robot.lateness_ms is not None and robot.lateness_ms > LATE_MS
        self._show("Lateness p99", f"{number(robot.lateness_ms)} ms", "warn" if late else "")
        self._show("To upload", DASH if robot.waiting is None else f"{robot.waiting} episodes")
        self._show("Agent", said.get("agent_version") or DASH)
        self._show("Policies run on", robot.libraries, known=bool(robot.libraries))
        self._show("Hardware", robot.hw or DASH)
        self._show("System", robot.system, known=bool(robot.system))
        known = robot.host_celsius is not None
        self._show("Host at", f"{number(robot.host_celsius, 0)} °C ({robot.host_zone})", robot.host_tone, known=known)
        up_s = said.get("uptime_s") if robot.online else None
        self._show("Host up for", DASH if up_s is None else lasting(up_s))
        differs = ", ".join(robot.drift or ()) or "none"
        told = robot.drift is not None
        self._show("Drift", f"{differs} ({robot.compared})", "warn" if robot.drift else "", known=told)
        self._show("Site", robot.site or DASH)
        spool = said.get("spool") or {}
        self._spool.set(robot.spool_used)
        self._spool_text.show(f"{size(spool.get('bytes'))} of {size(spool.get('budget_bytes'))}")
        self._disk.set(robot.disk_used)
        self._disk_text.show(f"{size(robot.disk_free_bytes)} free")

    def _show(self, name: str, text: str, tone: str = "", *, known: bool = True) -> None:
        """`known`: False hides it, name and all: an older agent does not tell."""
        title, value = self._values[name]
        for each in (title, value):
            each.set_visibility(known)
        value.show(text)
        set_attribute(value, "data-tone", tone)

    def _value(self, name: str) -> tuple[Text, Text]:
        return Text(name, tag="dt"), Text("", "lf-toned", tag="dd")

    def _bar(self, name: str) -> tuple[Meter, Text]:
        with box():
            with box("lf-bar-head"):
                Text(name, tag="span")
                text = Text("", tag="span")
            return Meter(name), text


class Motors:
    """How each servo is: from the metrics that the robot sends."""

    def __init__(self) -> None:
        self._shown: Arm | None = None
        with box("lf-card lf-panel", tag="section"):
            Text("Servos", tag="h2")
            self._body = box("lf-scroll")

    def show(self, robot: RobotState) -> None:
        if robot.arm == self._shown:
            return
        self._shown = robot.arm
        self._body.clear()
        with self._body:
            if not robot.arm.motors:
                Text("This robot tells nothing of its motors: a simulated arm has none.", "lf-muted", tag="p")
                return
            with box("lf-motors", tag="table"):
                with box(tag="thead"), box(tag="tr"):
                    for title in _MOTOR_COLUMNS:
                        Text(title, tag="th")
                with box(tag="tbody"):
                    for joint, motor in robot.arm.motors.items():
                        self._row(joint, motor)
            if robot.arm.reads:
                failed = robot.arm.reads_failed or 0
                Text(f"{failed} of {robot.arm.reads} readings of the arm failed and were tried again.", "lf-faint")

    def _row(self, joint: str, motor: Motor) -> None:
        celsius, load, errors = motor.temperature_celsius, motor.load_ratio, motor.errors_total
        with box(tag="tr", data_joint=joint):
            Text(joint.replace("_", " "), tag="td")
            _toned(f"{number(celsius, 0)} °C", level(celsius, WARM_C, HOT_C))
            _toned(f"{number(motor.voltage_volts)} V")
            _toned(f"{number(motor.current_amperes, 2)} A")
            _toned(
                f"{number(None if load is None else 100 * load, 0)} %",
                level(None if load is None else abs(load), NEARLY_FULL, FULL),
            )
            _toned(number(errors, 0), "warn" if errors else "")


def _toned(text: str, tone: str = "") -> None:
    set_attribute(Text(text, "lf-num lf-toned", tag="td"), "data-tone", tone)
