"""Builds what `lefleet-agent doctor` looks at."""

import time
from collections.abc import Iterator
from pathlib import Path

from lefleet_agent import credential
from lefleet_agent.config import AgentSettings, ConfigError
from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import ServerError
from lefleet_agent.courier.tokens import Tokens
from lefleet_agent.credential import NotEnrolledError
from lefleet_agent.doctor import arm, fleet, machine, processes
from lefleet_agent.doctor.finding import Finding, unknown
from lefleet_agent.liveness import health
from lefleet_agent.occupied import OccupiedError, arm_held, holder
from lefleet_agent.release import ReleaseStore
from lefleet_agent.wiring import build_api, build_report, build_robot, build_spool


def build_doctor(settings: AgentSettings) -> Iterator[Finding]:
    """Every finding about this robot, as each is found. A running control is not disturbed; otherwise the arm is
    connected for some seconds."""
    budget_bytes = settings.recording.spool_budget_bytes
    yield from machine.disk(settings.state_dir, budget_bytes)
    yield from machine.memory(Path("/proc/meminfo").read_text())
    yield from processes.memory_of(settings.state_dir / "run")
    yield from machine.temperatures()
    api, trouble = ask_server(settings)
    yield from fleet.server(str(settings.server_url), trouble)
    yield from machine.clock(api.clock_offset_s if api else None)
    yield from fleet.processes(settings.state_dir / "run", time.monotonic_ns())
    yield from fleet.spool(build_spool(settings), budget_bytes)
    yield from machine.policy(ReleaseStore(settings.state_dir / "releases"))
    yield from machine.device(settings.policy.device)
    robot, report = build_robot(settings), build_report(settings)
    run = settings.state_dir / "run"
    if holder(run) is not None and health(run, "control", time.monotonic_ns()).alive:
        yield from arm.told(report.control(), report.control_metrics, robot.info)
        return
    try:
        with arm_held(run, "doctor", "the doctor would ask it at the same time"):
            yield from arm.own(robot)
    except OccupiedError as error:
        yield unknown("arm", str(error), "ask again when it has ended")


def ask_server(settings: AgentSettings) -> tuple[ServerApi | None, str | None]:
    """A line to the server, and why it cannot be used; None where it can."""
    try:
        known = credential.read(settings.state_dir, settings.robot_id)
        api = build_api(settings, Tokens(known.token, known.previous))
    except (NotEnrolledError, ConfigError) as error:
        return None, str(error)
    try:
        api.receipt("0" * 64)  # of nothing: any answer shows that the server knows this robot
    except ServerError as error:
        return api, str(error)
    return api, None
