"""Builds what `lefleet-agent fit` needs."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lefleet_agent import __version__, memory, release
from lefleet_agent.config import AgentSettings
from lefleet_agent.episode import PolicyInfo, RobotInfo
from lefleet_agent.fit import host, report
from lefleet_agent.fit.measure import Amount, measure, observations
from lefleet_agent.logs import configure_aside
from lefleet_agent.occupied import arm_held
from lefleet_agent.release import ReleaseStore
from lefleet_agent.wiring import build_robot
from lefleet_agent.wiring_policy import start_policy


def fit_policy(
    settings: AgentSettings, folder: Path | None, amount: Amount, progress: Callable[[int], None], stop: threading.Event
) -> dict[str, Any]:
    """Load the active release, or the policy in `folder`, measure it and judge; the content of docs/fit-format.md.
    Raises OccupiedError, ReleaseError, PolicyError."""
    why = "a second policy would take the memory again, which may end the first, and its times would not be true"
    with arm_held(settings.state_dir / "run", "fit", why):
        return _fit(settings, folder, amount, progress, stop)


def _fit(
    settings: AgentSettings, folder: Path | None, amount: Amount, progress: Callable[[int], None], stop: threading.Event
) -> dict[str, Any]:
    robot = build_robot(settings).info
    folder, info = _policy(settings, folder)
    available_bytes, begun_s = memory.available_bytes(), time.monotonic()
    runner = start_policy(settings, robot, folder, info, stop, configure_aside)
    try:
        load_s = time.monotonic() - begun_s
        continues, limit_s = settings.policy.mode == "rtc", settings.policy.first_action_limit_s
        timings = measure(runner, observations(robot), settings.task, settings.control_hz, continues, amount,
                          limit_s, progress, stop.is_set)  # fmt: skip
        computing, peak_bytes = runner.computing(), memory.peak_rss_bytes(runner.pid or 0)
    finally:
        runner.close()
    hold_s = settings.safety.hold_limit_s
    speed = report.speed(
        timings, load_s, runner.traits.execute_steps, settings.control_hz, settings.policy.mode, hold_s
    )
    taken = report.memory(computing, peak_bytes, available_bytes, memory.total_bytes())
    cores = len(os.sched_getaffinity(0))
    advice = list(report.advice(speed, taken, computing, settings.policy.threads, cores))
    return report.document(speed, taken, computing, _about(settings, robot, info), advice)


def _policy(settings: AgentSettings, folder: Path | None) -> tuple[Path, PolicyInfo]:
    if folder is None:
        return ReleaseStore(settings.state_dir / "releases").active()
    return folder, release.describe(folder, folder.resolve().name, "")


def _about(settings: AgentSettings, robot: RobotInfo, info: PolicyInfo) -> dict[str, Any]:
    cameras = {name: {"height": each.height, "width": each.width} for name, each in robot.cameras.items()}
    return {
        "measured_wall_ns": time.time_ns(),
        "agent_version": __version__,
        "robot": {"robot_id": robot.robot_id, "type": robot.type, "joints": len(robot.joint_names), "cameras": cameras},
        "policy": info.reference(),
        "settings": settings.policy.model_dump(),
        "machine": host.describe(),
    }
