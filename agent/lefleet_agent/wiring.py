"""Builds the two processes' objects from the settings. Adapters (robots, policies, HTTP) are named only here."""

import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from lefleet_agent.config import AgentSettings, ConfigError
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.loop import ControlLoop
from lefleet_agent.control.safety import Limits
from lefleet_agent.control.session import Session
from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.courier import TALK_S, Courier
from lefleet_agent.courier.gate import Gate
from lefleet_agent.courier.heartbeat import Report
from lefleet_agent.courier.losses import LossCheck
from lefleet_agent.courier.pace import Pieces, Rate
from lefleet_agent.courier.room import Room
from lefleet_agent.courier.state import CourierFile
from lefleet_agent.courier.uploads import Uploader
from lefleet_agent.credential import Credential
from lefleet_agent.drain import Drain
from lefleet_agent.episode import RobotInfo
from lefleet_agent.liveness import Pulse
from lefleet_agent.logs import configure
from lefleet_agent.metrics import CourierMetrics
from lefleet_agent.policy import Policy
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.recording.sink import RecorderError
from lefleet_agent.release import ReleaseStore
from lefleet_agent.reserve import Reserve
from lefleet_agent.retention import WhenFull
from lefleet_agent.robot import ResettableRobot
from lefleet_agent.spool import Spool, SpoolError

log = structlog.get_logger()


@contextmanager
def build_session(settings: AgentSettings, stop: threading.Event) -> Iterator[Session]:
    """The control process; its recorder runs until the context ends."""
    robot = build_robot(settings)
    handle = RecorderHandle(
        RecorderConfig(
            state_dir=settings.state_dir,
            robot=robot.info,
            jpeg_quality=settings.recording.jpeg_quality,
            ring_slots=settings.recording.ring_slots,
            hung_after_s=settings.hung_after_s,
        ),
        setup=configure,
    )
    handle.start()
    try:
        limits = build_limits(robot.info, settings)
        loop = ControlLoop(robot, limits, handle.sink, SystemClock(), settings.control_hz, stop)
        has_room, rest = build_room(settings), Drain(settings.state_dir).asked_by
        yield Session(robot, ActivePolicy(settings, robot.info), loop, handle, has_room, rest, settings, stop)
    finally:
        handle.close()


def build_courier(settings: AgentSettings, credential: Credential, stop: threading.Event) -> Courier:
    metrics, pulse = CourierMetrics(CollectorRegistry()), Pulse()
    api, report = build_api(settings, credential.token), build_report(settings)
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
    budget_bytes = settings.recording.spool_budget_bytes
    return Courier(
        api,
        Uploader(api, spool, pieces, gate, counted),
        LossCheck(api, spool, metrics.offered_again.inc),
        Room(spool, budget_bytes, build_rule(settings), metrics),
        report,
        metrics,
        CourierFile(settings.state_dir / "run" / "courier.json", pulse, lambda: api.clock_offset_s),
        settings.courier,
        stop,
    )


def build_api(settings: AgentSettings, token: str | None = None) -> ServerApi:
    """Raises ConfigError when the authority's file cannot be used."""
    url = settings.server_url
    if url.scheme == "http" and not is_loopback(url.host or ""):
        log.warning("this server is spoken to without TLS: anyone on the way can read and change it", server=str(url))
    return ServerApi(str(url), token, settings.courier.timeout_s, build_trust(settings.server_ca_file))


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


def build_report(settings: AgentSettings) -> Report:
    return Report(settings.state_dir, build_spool(settings), settings.recording.spool_budget_bytes)


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
    from lefleet_agent.robots.so101_sim import So101SimRobot

    robot = settings.robot
    try:
        return So101SimRobot(
            settings.robot_id, robot.camera_width, robot.camera_height, robot.camera_fps, robot.gl, settings.control_hz
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def build_limits(robot: RobotInfo, settings: AgentSettings) -> Limits:
    low, high = np.array(robot.joint_limits, np.float32).T
    slew = np.full(low.shape, settings.safety.slew_per_s / settings.control_hz, np.float32)
    return Limits(low, high, slew)


class ActivePolicy:
    """The release store's active policy, loaded with LeRobot."""

    def __init__(self, settings: AgentSettings, robot: RobotInfo) -> None:
        self._store = ReleaseStore(settings.state_dir / "releases")
        self._robot = robot

    def active_digest(self) -> str | None:
        return self._store.active_digest()

    def load(self) -> Policy:
        from lefleet_agent.policies.lerobot import load

        folder, info = self._store.active()
        return load(folder, info, self._robot)
