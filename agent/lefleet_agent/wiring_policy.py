"""Builds the policy's process."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lefleet_agent.config import AgentSettings
from lefleet_agent.episode import PolicyInfo, RobotInfo
from lefleet_agent.logs import configure
from lefleet_agent.policy import PolicyRunner
from lefleet_agent.release import ReleaseStore

if TYPE_CHECKING:
    from lefleet_agent.policies.process import PolicyProcess


class ActivePolicy:
    """The release store's active policy, in a process of its own."""

    def __init__(self, settings: AgentSettings, robot: RobotInfo, stop: threading.Event) -> None:
        self._store = ReleaseStore(settings.state_dir / "releases")
        self._settings = settings
        self._robot = robot
        self._stop = stop

    def active_digest(self) -> str | None:
        return self._store.active_digest()

    def load(self) -> PolicyRunner:
        return start_policy(self._settings, self._robot, *self._store.active(), self._stop)


def start_policy(
    settings: AgentSettings,
    robot: RobotInfo,
    folder: Path,
    info: PolicyInfo,
    stop: threading.Event,
    setup: Callable[[], None] = configure,
) -> "PolicyProcess":
    """Load this policy in a process of its own, where `setup` runs first. Raises PolicyError."""
    from lefleet_agent.policies.process import JudgeModel, PolicyOptions, PolicyProcess, Wanted

    policy = settings.policy
    options = PolicyOptions(
        settings.control_hz,
        policy.mode,
        policy.device,
        policy.precision,
        policy.precision_limit,
        policy.threads,
        policy.compile,
    )
    judge = JudgeModel(settings.judge.model, settings.judge.crop) if settings.judge.model else None
    wanted = Wanted(folder, info, robot, options, judge)
    return PolicyProcess.start(wanted, setup, stop.is_set, policy.load_limit_s)
