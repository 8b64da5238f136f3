"""Builds the two processes' objects from the settings. Adapters (robots, policies, HTTP) are named only here."""

import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from lefleet_agent.config import AgentSettings, ConfigError
from lefleet_agent.config_robots import LeRobotRobot, SimulatedRobot, So101Follower
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.judge import Certainty
from lefleet_agent.control.loop import ControlLoop, Pace
from lefleet_agent.control.operator import Operator
from lefleet_agent.control.pilot import PersonPilot, Pilot, PolicyPilot
from lefleet_agent.control.safety import Freshness, Limits
from lefleet_agent.control.session import Session, Surroundings
from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.courier import TALK_S, Courier
from lefleet_agent.courier.gate import Gate
from lefleet_agent.courier.heartbeat import Report
from lefleet_agent.courier.losses import LossCheck
from lefleet_agent.courier.pace import Pieces, Rate
from lefleet_agent.courier.renewal import Renewal
from lefleet_agent.courier.room import Room
from lefleet_agent.courier.state import CourierFile
from lefleet_agent.courier.tokens import Tokens
from lefleet_agent.courier.uploads import Uploader
from lefleet_agent.courier.wishes import Levers, Wishes
from lefleet_agent.credential import Credential
from lefleet_agent.episode import RobotInfo
from lefleet_agent.host import Drift, temperatures
from lefleet_agent.liveness import Pulse
from lefleet_agent.logs import configure
from lefleet_agent.metrics import CourierMetrics, HostMetrics
from lefleet_agent.obeyed import Obeyed
from lefleet_agent.occupied import CONTROL, arm_held
from lefleet_agent.recording.arm_health import HealthTeller
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.recording.sink import RecorderError
from lefleet_agent.requests import drain, emergency_stop, takeover
from lefleet_agent.reserve import Reserve
from lefleet_agent.retention import WhenFull
from lefleet_agent.robot import MonitoredRobot, ResettableRobot
from lefleet_agent.spool import Spool, SpoolError
from lefleet_agent.stopping import CutShortError, Stop, end
from lefleet_agent.task import Task
from lefleet_agent.wiring_policy import ActivePolicy
from lefleet_agent.wiring_teleop import build_driver, build_following, build_leader, build_pose, build_reset

if TYPE_CHECKING:
    from lefleet_agent.robots.lerobot import RealArm

log = structlog.get_logger()

PUBLISH_S = 60.0
"""For the recorder's last episodes, where nobody is in a hurry."""


@contextmanager
def build_session(
    settings: AgentSettings, stop: threading.Event, demonstrations: bool = False, episodes: int | None = None
) -> Iterator[Session]:
    """The control process; its recorder, and the thread that reads a leader arm, run until the context ends.

    `demonstrations`: a person drives with the leader arm, and no policy is loaded. Raises ConfigError, OccupiedError.
    """
    command = "record" if demonstrations else CONTROL
    with (
        arm_held(settings.state_dir / "run", command, "both would move the arm"),
        _session(settings, stop, demonstrations, episodes) as session,
    ):
        yield session


@contextmanager
def _session(
    settings: AgentSettings, stop: threading.Event, demonstrations: bool, episodes: int | None
) -> Iterator[Session]:
    robot = build_robot(settings)
    leader = build_leader(settings, robot.info)
    handle = RecorderHandle(
        RecorderConfig(
            state_dir=settings.state_dir,
            robot=robot.info,
            jpeg_quality=settings.recording.jpeg_quality,
            ring_slots=settings.recording.ring_slots,
            before_event_s=settings.recording.before_event_s,
            hung_after_s=settings.hung_after_s,
        ),
        setup=configure,
    )
    handle.start()
    try:
        limits = build_limits(robot.info, settings)
        operator = Operator(emergency_stop(settings.state_dir), settings.state_dir / "run", stop)
        freshness = Freshness(settings.safety.joints_max_age_s, settings.safety.image_max_age_s)
        teller = HealthTeller(handle, robot.health) if isinstance(robot, MonitoredRobot) else None
        sink, pace = teller or handle.sink, Pace(settings.control_hz, settings.safety.hold_limit_s)
        loop = ControlLoop(robot, limits, freshness, sink, SystemClock(), pace, operator)
        around = Surroundings(
            build_room(settings),
            drain(settings.state_dir).asked_by,
            build_pose("safety.park_pose", settings.safety.park_pose, robot.info),
            (lambda: settings.task) if demonstrations else Task(settings.state_dir, settings.task),
            build_reset(settings, robot.info, loop, operator, leader),
            takeover(settings.state_dir).asked_by if leader and not demonstrations else list,
            episodes,
        )
        pilot: Pilot
        if demonstrations:
            pilot = PersonPilot(build_following(settings, leader))
        else:
            judge = Certainty(settings.judge.threshold, settings.judge.hold_s, settings.judge.every_s)
            releases = ActivePolicy(settings, robot.info, stop)
            pilot = PolicyPilot(releases, partial(build_driver, settings, leader), judge)
        if leader:
            leader.start()
        yield Session(robot, pilot, loop, teller or handle, operator, around, settings, stop)
    finally:
        if leader:
            leader.stop()
        _close(handle, stop)


def _close(handle: RecorderHandle, stop: threading.Event) -> None:
    """Raises CutShortError when the stop's budget ends before the recorder has published."""
    left_s = stop.left_s(PUBLISH_S) if isinstance(stop, Stop) else PUBLISH_S
    try:
        handle.close(left_s)
    except RecorderError as error:
        end(handle.pid)
        raise CutShortError(
            f"the recorder was ended before it had published ({left_s:.1f} s were left); the next start does"
        ) from error


def build_courier(settings: AgentSettings, credential: Credential, stop: threading.Event) -> Courier:
    registry, drift = CollectorRegistry(), Drift(settings.drift_file)
    registry.register(HostMetrics(temperatures, drift.read))
    metrics, pulse = CourierMetrics(registry), Pulse()
    tokens = Tokens(credential.token, credential.previous)
    api, report = build_api(settings, tokens), build_report(settings, drift)
    folder = settings.state_dir / "spool"
    spool = Spool(folder, Reserve(folder / "reserve"))

    def alive() -> None:
        pulse.expect("upload", TALK_S)  # a large episode over a bad link takes hours, but it moves

    def counted(size_bytes: int, result: str) -> None:
        alive()
        metrics.upload_bytes(size_bytes, result)

    def busy() -> bool:
        return settings.courier.quiet_while_running and report.running()

    limit = settings.courier.upload_bytes_per_s
    gate = Gate(None if limit is None else Rate(limit), busy, stop.wait, alive)
    pieces = Pieces(settings.courier.upload_chunk_bytes, limit)
    return Courier(
        api,
        Uploader(api, spool, pieces, gate, counted),
        LossCheck(api, spool, metrics.offered_again.inc),
        Wishes(api.twin(), build_levers(settings), Obeyed(settings.state_dir), settings.courier.timeout_s),
        Renewal(api, tokens, settings.state_dir, settings.robot_id, settings.courier.renew_credential_s),
        Room(spool, settings.recording.spool_budget_bytes, build_rule(settings), metrics),
        report,
        metrics,
        CourierFile(settings.state_dir / "run" / "courier.json", pulse, lambda: api.clock_offset_s),
        settings.courier,
        stop,
    )


def build_levers(settings: AgentSettings) -> Levers:
    state_dir, run = settings.state_dir, settings.state_dir / "run"
    reboot = run / "reboot" if settings.host_reboots else None
    return Levers(emergency_stop(state_dir), drain(state_dir), Task(state_dir, settings.task), run, reboot)


def build_api(settings: AgentSettings, tokens: Tokens | str | None = None) -> ServerApi:
    """Raises ConfigError when the authority's file cannot be used."""
    url = settings.server_url
    if url.scheme == "http" and not is_loopback(url.host or ""):
        log.warning("this server is spoken to without TLS: anyone on the way can read and change it", server=str(url))
    return ServerApi(str(url), tokens, settings.courier.timeout_s, build_trust(settings.server_ca_file))


def build_trust(authority: Path | None) -> ssl.SSLContext | None:
    """What the server's certificate is checked against; None stands for what the system trusts.

    Raises ConfigError.
    """
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except FileNotFoundError:
        raise ConfigError(f"server_ca_file: {authority}: no such file; copy the server's ca.crt there") from None
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"server_ca_file: {authority}: no certificates in PEM form can be read: {error}") from error


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, as far as can be told without asking."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def build_report(settings: AgentSettings, drift: Drift | None = None) -> Report:
    """`drift`: where somebody reads it already, so that the log has its trouble once."""
    spool, budget_bytes = build_spool(settings), settings.recording.spool_budget_bytes
    drift = drift or Drift(settings.drift_file)
    return Report(settings.state_dir, spool, budget_bytes, settings.host_reboots, drift)


def build_spool(settings: AgentSettings) -> Spool:
    return Spool(settings.state_dir / "spool")


def build_room(settings: AgentSettings) -> Callable[[], bool]:
    """Whether another episode may be recorded; it makes room for that, so the budget holds without the courier too."""
    make = partial(build_spool(settings).make_room, settings.recording.spool_budget_bytes, build_rule(settings))

    def has_room() -> bool:
        try:
            return make()
        except SpoolError as error:
            # What control knows how to say and to try again: a disk that fills up or goes must not end the process.
            raise RecorderError(f"nothing can be recorded: {error}") from error

    return has_room


def build_rule(settings: AgentSettings) -> WhenFull:
    return WhenFull(settings.recording.spool_when_full)


def build_robot(settings: AgentSettings) -> ResettableRobot:
    """Raises ConfigError."""
    robot = settings.robot
    if not isinstance(robot, SimulatedRobot):
        return build_arm(robot, settings.robot_id)

    from lefleet_agent.robots.so101_sim import So101SimRobot

    try:
        return So101SimRobot(
            settings.robot_id, robot.camera_width, robot.camera_height, robot.camera_fps, robot.gl, settings.control_hz
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def build_arm(settings: So101Follower | LeRobotRobot, robot_id: str) -> "RealArm":
    """A real arm with its cameras."""
    from lefleet_agent.robots import camera_opencv
    from lefleet_agent.robots.camera import CameraThread
    from lefleet_agent.robots.driver import ArmDriver
    from lefleet_agent.robots.lerobot import RealArm

    driver: ArmDriver
    kind: str
    if isinstance(settings, So101Follower):
        from lefleet_agent.robots.so101_follower import FeetechArm

        driver, kind = FeetechArm(settings, robot_id), settings.type
    else:
        from lefleet_agent.robots.lerobot_any import AnyArm

        driver, kind = AnyArm(settings, robot_id), settings.lerobot_type
    cameras = {}
    for name, camera in settings.cameras.items():
        info = camera_opencv.describe(camera)
        source = camera_opencv.OpenCvCamera(camera)
        cameras[name] = CameraThread(name, source, info.height, info.width), info
    return RealArm(robot_id, kind, driver, cameras, settings.bus_hz, settings.bus_silence_s)


def build_limits(robot: RobotInfo, settings: AgentSettings) -> Limits:
    low, high = np.array(robot.joint_limits, np.float32).T
    slew = np.full(low.shape, settings.safety.slew_per_s / settings.control_hz, np.float32)
    return Limits(low, high, slew)
