"""The arm and its cameras: asked themselves while control does not run, else as control last told."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from lefleet_agent.doctor.finding import Finding, Findings, bad, good, unknown, warning
from lefleet_agent.episode import ArmHealth, MotorHealth, RobotInfo
from lefleet_agent.robot import MonitoredRobot, Robot, RobotError

WATCHED_S = 3.0
HOT_CELSIUS, TOO_HOT_CELSIUS = 55.0, 65.0  # an STS3215 lets go at 70
LEAST_RATE_SHARE = 0.8
MOST_FAILED_SHARE = 0.01


def own(robot: Robot) -> Findings:
    """Connect the arm, watch it for some seconds, and let it go on holding."""
    try:
        info = robot.info
        robot.connect()
    except RobotError as error:
        yield bad("arm", str(error), "docs/troubleshooting.md goes through what can be wrong")
        return
    try:
        rates_hz = {} if info.simulated else _watch(robot, WATCHED_S)  # simulated ones draw when the arm moves
        yield good("arm", f"{info.type} answers, {len(info.joint_names)} joints")
        yield _calibration(info)
        if isinstance(robot, MonitoredRobot):
            yield from motors(_complete(robot, info.joint_names, WATCHED_S), info.joint_names)
        for camera, rate_hz in rates_hz.items():
            yield camera_rate(camera, rate_hz, info.cameras[camera].fps)
    except RobotError as error:
        yield bad("arm", str(error), "docs/troubleshooting.md goes through what can be wrong")
    finally:
        robot.disconnect()


def _complete(robot: MonitoredRobot, joints: Sequence[str], limit_s: float) -> ArmHealth:
    """Each motor is asked in its turn; one whose answer was lost gets another."""
    deadline_s = time.monotonic() + limit_s
    while (health := robot.health()).motors and _silent(health, joints) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return health


def _watch(robot: Robot, seconds: float) -> dict[str, float]:
    """New pictures a second of each camera."""
    first = {camera: image.seq for camera, image in robot.observe().images.items()}
    start_s = time.monotonic()
    while (took_s := time.monotonic() - start_s) < seconds:
        newest = robot.observe().images
        time.sleep(0.02)
    return {
        camera: (newest[camera].seq - first.get(camera, newest[camera].seq)) / took_s if camera in newest else 0.0
        for camera in robot.info.cameras
    }


def told(control: Mapping[str, Any], metrics: Callable[[], str], info: RobotInfo) -> Findings:
    """From what the running control says. `metrics`: its exposition now; asked twice, some seconds apart."""
    yield _calibration(info)
    if arm := control.get("arm"):
        yield from motors(_health(arm), info.joint_names)
    before, start_s = new_pictures(metrics()), time.monotonic()
    time.sleep(WATCHED_S)
    after, took_s = new_pictures(metrics()), time.monotonic() - start_s
    for camera, about in info.cameras.items():
        count = after.get(camera, 0) - before.get(camera, 0)
        if count <= 0 and control.get("state") != "running":
            yield unknown(f"camera {camera}", "no episode runs, so control does not count its pictures",
                          "stop control for a moment and ask again: its rate is measured then")  # fmt: skip
        else:
            yield camera_rate(camera, count / took_s, about.fps)


def new_pictures(exposition: str) -> dict[str, float]:
    """By camera, how many new pictures control has seen since it started."""
    return {
        sample.labels["camera"]: sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == "lefleet_camera_frames_total" and sample.labels["result"] == "new"
    }


def camera_rate(camera: str, measured_hz: float, wanted_hz: float) -> Finding:
    part, what = f"camera {camera}", f"{measured_hz:.1f} pictures a second, {wanted_hz:g} asked for"
    if measured_hz == 0:
        return bad(part, what, "it is frozen or unplugged: replug it, look at `dmesg`")
    if measured_hz < LEAST_RATE_SHARE * wanted_hz:
        return warning(part, what, "another USB port, `fourcc: MJPG`, more light (a dark picture is exposed longer)")
    return good(part, what)


def motors(health: ArmHealth, joints: Sequence[str] = ()) -> Findings:
    """And which of these joints told nothing, of a robot whose motors tell how they are."""
    yield _bus(health)
    for joint, motor in health.motors.items():
        yield _motor(joint, motor)
    for joint in _silent(health, joints) if health.motors else ():
        yield unknown(f"motor {joint}", "did not say how it is", "ask again; if it stays so, look at its cable")


def _silent(health: ArmHealth, joints: Sequence[str]) -> list[str]:
    return [joint for joint in joints if joint not in health.motors]


def _motor(joint: str, motor: MotorHealth) -> Finding:
    part = f"motor {joint}"
    what = f"{motor.temperature_celsius:.0f} °C, {motor.voltage_volts:.1f} V, load {motor.load_ratio:.0%}"
    if motor.alarms:
        return bad(part, f"{what}; it reports {', '.join(motor.alarms)}", "docs/troubleshooting.md, 13 to 15")
    if motor.temperature_celsius >= TOO_HOT_CELSIUS:
        return bad(part, what, "let it cool: it lets go at 70 °C by itself; robot.torque_limit_percent")
    if motor.temperature_celsius >= HOT_CELSIUS:
        return warning(part, what, "it works hard or holds against something; watch it")
    return good(part, what)


def _bus(health: ArmHealth) -> Finding:
    asked = health.reads + health.reads_failed
    worst = max(health.errors, key=lambda joint: health.errors[joint], default="")
    what = f"{health.reads_failed} of {asked} readings failed, {health.goals_withheld} targets withheld"
    if worst:
        what += f"; most errors: {worst} ({health.errors[worst]})"
    if asked and health.reads_failed > MOST_FAILED_SHARE * asked:
        return warning("bus", what, f"change the cable to {worst or 'the first motor'}, and the one before it")
    return good("bus", what)


def _calibration(info: RobotInfo) -> Finding:
    return good("calibration", f"fingerprint {info.calibration_fingerprint[:16]}")


def _health(arm: Mapping[str, Any]) -> ArmHealth:
    motors = {
        joint: MotorHealth(**(motor | {"alarms": tuple(motor["alarms"])})) for joint, motor in arm["motors"].items()
    }
    return ArmHealth(**(dict(arm) | {"motors": motors}))
