"""The life of the control process: episode after episode, each with the policy that is active when it begins."""

import gc
import time
import uuid
from collections.abc import Callable
from threading import Event
from typing import Any, Protocol

import structlog

from lefleet_agent import __version__
from lefleet_agent.config import AgentSettings
from lefleet_agent.control.loop import ControlLoop
from lefleet_agent.episode import CameraImage, EpisodeInfo
from lefleet_agent.policy import Policy, PolicyError
from lefleet_agent.recording.sink import RecorderError, RobotState
from lefleet_agent.release import ReleaseError
from lefleet_agent.robot import ResettableRobot, RobotError

log = structlog.get_logger()

RETRY_S = 5.0
PREVIEW_S = 0.5


class Releases(Protocol):
    """Where the active policy comes from."""

    def active_digest(self) -> str | None: ...

    def load(self) -> Policy:
        """Raises ReleaseError or PolicyError."""


class Recorder(Protocol):
    """What the session needs of the recorder beyond single frames."""

    def ensure_alive(self) -> None:
        """Start it again if it died; between episodes only. Raises RecorderError."""

    def status(self, values: dict[str, Any]) -> bool:
        """Say what the robot is doing. Best effort."""

    def preview(self, images: dict[str, CameraImage]) -> bool:
        """Show pictures while no episode runs. Best effort."""


class Session:
    """Runs until `stop` is set: set the scene up, run an episode, rest; say what goes wrong and try again."""

    def __init__(
        self,
        robot: ResettableRobot,
        releases: Releases,
        loop: ControlLoop,
        recorder: Recorder,
        has_room: Callable[[], bool],
        asked_to_rest: Callable[[], list[str]],
        settings: AgentSettings,
        stop: Event,
    ) -> None:
        self._robot = robot
        self._releases = releases
        self._loop = loop
        self._recorder = recorder
        self._has_room = has_room
        self._asked_to_rest = asked_to_rest
        self._settings = settings
        self._stop = stop
        self._policy: Policy | None = None
        self._seed = settings.seed
        self._state, self._detail = RobotState.CONNECTING, ""

    def run(self) -> None:
        self._status(RobotState.CONNECTING)
        self._robot.connect()
        try:
            while not self._stop.is_set():
                self._rest(self._episode())
        finally:
            self._robot.disconnect()
            self._status(RobotState.STOPPED)

    def _episode(self) -> float:
        """One episode if everything is there for it; returns how long to rest, seconds."""
        try:
            self._recorder.ensure_alive()
            if asked_by := self._asked_to_rest():
                self._status(RobotState.DRAINED, f"asked by {', '.join(asked_by)}; `lefleet-agent resume` goes on")
                return PREVIEW_S
            if not self._has_room():
                self._status(
                    RobotState.SPOOL_FULL, "episodes that the server does not have yet fill the spool's budget"
                )
                return RETRY_S
            policy = self._current_policy()
            seed = self._next_seed()
            self._status(RobotState.RESETTING)
            self._robot.reset(seed)
            self._status(RobotState.RUNNING)
            reason = self._run(policy, seed)
        except (ReleaseError, PolicyError, RobotError, RecorderError) as error:
            log.error("no episode", error=str(error))
            self._status(RobotState.ERROR, str(error))
            return RETRY_S
        self._status(RobotState.IDLE, reason)
        return self._settings.pause_s

    def _run(self, policy: Policy, seed: int) -> str:
        # A collection in the middle of an episode would be a late tick.
        gc.collect()
        gc.disable()
        try:
            info = self._info(policy, seed)
            ended = self._loop.run(info, policy, self._settings.episode_time_limit_s, self._robot.outcome)
        finally:
            gc.enable()
        log.info("episode ended", outcome=ended.outcome, interrupted=ended.interrupted, reason=ended.reason, seed=seed)
        return ended.reason

    def _rest(self, seconds: float) -> None:
        """Wait, and keep the live pictures live. Ends early when someone asks to drain."""
        until_s = time.monotonic() + seconds
        while not self._stop.is_set() and (left_s := until_s - time.monotonic()) > 0:
            if self._state is not RobotState.DRAINED and self._asked_to_rest():
                return
            try:
                self._recorder.preview(self._robot.observe().images)
            except RobotError as error:
                log.warning("no live picture", error=str(error))
                self._status(self._state, self._detail)  # a sign of life all the same
            self._stop.wait(min(PREVIEW_S, left_s))

    def _current_policy(self) -> Policy:
        """The active release's policy; loaded when the link has changed, so only ever between episodes."""
        if self._policy is None or self._releases.active_digest() != self._policy.info.digest:
            self._status(RobotState.LOADING)
            self._policy = self._releases.load()
            log.info("policy loaded", repo=self._policy.info.repo, digest=self._policy.info.digest[:12])
        return self._policy

    def _next_seed(self) -> int:
        """Scenes count up from the setting, or from the clock, so that a restart does not repeat them."""
        if self._seed is None:
            self._seed = time.time_ns() // 1000 % 2**31
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

    def _status(self, state: RobotState, detail: str = "") -> None:
        self._state, self._detail = state, detail
        policy = self._policy.info.reference() if self._policy else None
        self._recorder.status({"state": state, "detail": detail, "task": self._settings.task, "policy": policy})
