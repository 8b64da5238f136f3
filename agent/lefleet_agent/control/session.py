"""The life of the control process: episode after episode, each with the policy that is active when it begins."""

import gc
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from threading import Event
from typing import Any, Protocol

import structlog

from lefleet_agent import __version__
from lefleet_agent.config import AgentSettings
from lefleet_agent.control.loop import ControlLoop
from lefleet_agent.episode import EpisodeInfo
from lefleet_agent.policy import Policy, PolicyError
from lefleet_agent.release import ReleaseError
from lefleet_agent.robot import ResettableRobot, RobotError

log = structlog.get_logger()

RETRY_S = 5.0


class Releases(Protocol):
    """Where the active policy comes from."""

    def active_digest(self) -> str | None: ...

    def load(self) -> Policy:
        """Raises ReleaseError or PolicyError."""


class Recorder(Protocol):
    """What the session needs of the recorder beyond single frames."""

    def ensure_alive(self) -> None:
        """Start it again if it died; between episodes only."""

    def status(self, values: dict[str, Any]) -> None:
        """Say what the robot is doing. Best effort."""


class Session:
    """Runs until `stop` is set: set the scene up, run an episode, rest; say what goes wrong and try again."""

    def __init__(
        self,
        robot: ResettableRobot,
        releases: Releases,
        loop: ControlLoop,
        recorder: Recorder,
        has_room: Callable[[], bool],
        settings: AgentSettings,
        stop: Event,
    ) -> None:
        self._robot = robot
        self._releases = releases
        self._loop = loop
        self._recorder = recorder
        self._has_room = has_room
        self._settings = settings
        self._stop = stop
        self._policy: Policy | None = None
        self._seed = settings.seed

    def run(self) -> None:
        self._status("connecting")
        self._robot.connect()
        try:
            while not self._stop.is_set():
                self._stop.wait(self._episode())
        finally:
            self._robot.disconnect()

    def _episode(self) -> float:
        """One episode if everything is there for it; returns how long to rest, seconds."""
        self._recorder.ensure_alive()
        if not self._has_room():
            self._status("spool_full", "the spool's budget is used up by episodes the server does not have yet")
            return RETRY_S
        try:
            policy = self._current_policy()
            seed = self._next_seed()
            self._status("resetting")
            self._robot.reset(seed)
        except (ReleaseError, PolicyError, RobotError) as error:
            log.error("no episode", error=str(error))
            self._status("error", str(error))
            return RETRY_S
        self._status("running")
        # A collection in the middle of an episode would be a late tick.
        gc.collect()
        gc.disable()
        ended = self._loop.run(
            self._info(policy, seed), policy, self._settings.episode_time_limit_s, self._robot.outcome
        )
        gc.enable()
        log.info("episode ended", outcome=ended.outcome, interrupted=ended.interrupted, reason=ended.reason, seed=seed)
        self._status("idle", ended.reason)
        return self._settings.pause_s

    def _current_policy(self) -> Policy:
        """The active release's policy; loaded when the link has changed, so only ever between episodes."""
        if self._policy is None or self._releases.active_digest() != self._policy.info.digest:
            self._status("loading")
            self._policy = self._releases.load()
            log.info("policy loaded", repo=self._policy.info.repo, digest=self._policy.info.digest[:12])
        return self._policy

    def _next_seed(self) -> int:
        """Scenes count up from the setting, or from the clock, so that a restart does not repeat them."""
        if self._seed is None:
            self._seed = int(time.time())
        self._seed += 1
        return self._seed - 1

    def _info(self, policy: Policy, seed: int) -> EpisodeInfo:
        return EpisodeInfo(
            episode_id=uuid.uuid4().hex,
            robot=self._robot.info,
            policy=policy.info,
            task=self._settings.task,
            fps=self._settings.control_hz,
            agent_version=__version__,
            started_wall_ns=time.time_ns(),
            started_monotonic_ns=time.monotonic_ns(),
            seed=seed,
        )

    def _status(self, state: str, detail: str = "") -> None:
        policy = asdict(self._policy.info) if self._policy else None
        if policy:
            del policy["files"]
        self._recorder.status({"state": state, "detail": detail, "task": self._settings.task, "policy": policy})
