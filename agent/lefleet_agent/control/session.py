"""The life of the control process: episode after episode, each with the policy that is active when it begins."""

import gc
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Protocol

import structlog

from lefleet_agent import __version__
from lefleet_agent.config import AgentSettings
from lefleet_agent.control.driver import Driver
from lefleet_agent.control.ended import Cause, Ended
from lefleet_agent.control.judge import SceneJudge
from lefleet_agent.control.loop import ControlLoop
from lefleet_agent.control.moments import Moments, Watcher
from lefleet_agent.control.operator import Operator
from lefleet_agent.control.pilot import Pilot
from lefleet_agent.control.reset import NoReset, Reset
from lefleet_agent.control.safety import UnsafeActionError
from lefleet_agent.episode import Action, EpisodeInfo, Observation
from lefleet_agent.policy import PolicyError
from lefleet_agent.recording.sink import RecorderError, RobotState
from lefleet_agent.release import ReleaseError
from lefleet_agent.robot import ResettableRobot, RobotDisconnected, RobotError

log = structlog.get_logger()

RETRY_S = 5.0
PREVIEW_S = 0.5
PARK_AT_STOP_S = 4.0
"""Longest way to the park pose when the process is to end: the recorder needs what is left of ten seconds."""


class Recorder(Watcher, Protocol):
    """What the session needs of the recorder beyond single frames."""

    def ensure_alive(self) -> None:
        """Start it again if it died; between episodes only. Raises RecorderError."""

    def status(self, values: dict[str, Any]) -> bool:
        """Say what the robot is doing. Best effort."""

    def preview(self, seen: Observation) -> bool:
        """Show pictures and joints while no episode runs. Best effort."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session asks before each episode."""

    has_room: Callable[[], bool]
    asked_to_rest: Callable[[], list[str]]
    park_pose: Action | None
    """Shape (joints,); None: the arm stays where it is."""
    task: Callable[[], str]
    """What the policy is to do."""
    reset: Reset = field(default_factory=NoReset)
    taken_over: Callable[[], list[str]] = list
    """Who has the arm in hand with the leader arm."""
    episodes: int | None = None
    """How many to run to their end, then stop; None: no end."""


class Session:
    """Runs until `stop` is set: set the scene up, run an episode, rest; say what goes wrong and try again."""

    def __init__(
        self,
        robot: ResettableRobot,
        pilot: Pilot,
        loop: ControlLoop,
        recorder: Recorder,
        operator: Operator,
        around: Surroundings,
        settings: AgentSettings,
        stop: Event,
    ) -> None:
        self._robot = robot
        self._pilot = pilot
        self._loop = loop
        self._recorder = recorder
        self._operator = operator
        self._around = around
        self._settings = settings
        self._stop = stop
        self._moments: Moments | None = None
        if settings.recording.before_event_s:
            self._moments = Moments(recorder, operator, around.taken_over, self._no_policys)
        self._connected = False
        self._seed = settings.seed
        self._left = around.episodes
        self._told_s = 0.0
        self._state, self._detail = RobotState.CONNECTING, ""

    def run(self) -> None:
        try:
            while not self._stop.is_set():
                self._rest(self._episode())
            self._park()
        finally:
            self._pilot.drop()
            self._robot.disconnect()
            self._status(RobotState.STOPPED)

    def _episode(self) -> float:
        """One episode if everything is there for it; returns how long to rest, seconds."""
        try:
            self._recorder.ensure_alive()
            self._ensure_connected()
            if not self._may_begin():
                return PREVIEW_S if self._state is not RobotState.SPOOL_FULL else RETRY_S
            driver = self._pilot.driver(lambda: self._status(RobotState.LOADING))
            seed = self._next_seed()
            if not self._reset(seed):
                return PREVIEW_S
            self._operator.forget()
            self._status(RobotState.RUNNING)
            ended = self._run(driver, seed)
            self._settle(ended)
            self._count(ended)
        except (ReleaseError, PolicyError, RobotError, RecorderError, UnsafeActionError) as error:
            return self._failed(error)
        self._status(RobotState.IDLE, ended.reason)
        return self._settings.pause_s

    def _may_begin(self) -> bool:
        """Whether nothing speaks against an episode; says what does. Raises RecorderError when nobody can tell."""
        if why := self._operator.emergency():
            self._status(RobotState.ESTOPPED, why)
            return False
        try:
            asked_by, led_by = self._around.asked_to_rest(), self._around.taken_over()
        except OSError as error:
            # A person may have asked for rest, and nothing could be recorded: the arm holds until the disk is back.
            raise RecorderError(f"nobody can tell what people ask of this robot: {error}; look at its disk") from error
        if asked_by:
            self._status(RobotState.DRAINED, f"asked by {', '.join(asked_by)}; `lefleet-agent resume` goes on")
        elif led_by:
            self._status(RobotState.IDLE, f"in the hands of {', '.join(led_by)}; `lefleet-agent handback` goes on")
        elif not self._around.has_room():
            self._status(RobotState.SPOOL_FULL, "episodes that the server does not have yet fill the spool's budget")
        else:
            return True
        return False

    def _run(self, driver: Driver, seed: int) -> Ended:
        # A collection in the middle of an episode would be a late tick.
        gc.collect()
        gc.disable()
        try:
            info = self._info(seed)
            self._operator.watch(info.episode_id)
            judge = self._pilot.judge or (SceneJudge(self._robot.outcome) if self._robot.info.simulated else None)
            ended = self._loop.run(info, driver, self._settings.episode_time_limit_s, judge)
        finally:
            gc.enable()
            if self._moments:
                self._moments.forget()
        log.info("episode ended", outcome=ended.outcome, interrupted=ended.interrupted, reason=ended.reason, seed=seed)
        return ended

    def _reset(self, seed: int) -> bool:
        """Set up the scene and the arm; False when no episode is to begin after all."""
        self._status(RobotState.RESETTING, self._around.reset.waits_for)
        self._robot.reset(seed)
        return self._around.reset.run(self._on_the_way)

    def _on_the_way(self, seen: Observation, why: str) -> bool:
        """Signs of life while the arm is led to the start; True when something else is wanted."""
        if not self._see(seen):
            return False
        waits_for = self._around.reset.waits_for
        if (detail := f"holds still: {why}; then it {waits_for}" if why else waits_for) != self._detail:
            self._status(RobotState.RESETTING, detail)
        return self._stop.is_set() or self._wanted_to_rest()

    def _see(self, seen: Observation) -> bool:
        """Keeps what is seen while the arm moves and nobody records; True now and then, when it is shown too."""
        if self._moments:
            self._moments.see(seen)
        if time.monotonic() - self._told_s < PREVIEW_S:
            return False
        self._told_s = time.monotonic()
        self._recorder.preview(seen)
        return True

    def _count(self, ended: Ended) -> None:
        if self._left is not None and not ended.interrupted:
            self._left -= 1
            if self._left == 0:
                self._stop.set()

    def _settle(self, ended: Ended) -> None:
        """Bring the arm and the policy into a known state after an episode that failed."""
        if ended.cause in (Cause.POLICY, Cause.ROBOT):
            self._park()
            raise (PolicyError if ended.cause is Cause.POLICY else RobotDisconnected)(ended.reason)

    def _failed(self, error: Exception) -> float:
        log.error("no episode", error=str(error))
        if isinstance(error, PolicyError):
            self._pilot.drop()
        if isinstance(error, RobotDisconnected) and self._connected:
            self._connected = False
            self._robot.disconnect()
        self._status(RobotState.ERROR, str(error))
        return RETRY_S

    def _ensure_connected(self) -> None:
        if not self._connected:
            self._status(RobotState.CONNECTING, self._detail)
            self._robot.connect()
            self._connected = True

    def _park(self) -> None:
        """Lead the arm slowly to where it may wait; it stays where it is when that fails or an emergency stop holds."""
        if self._around.park_pose is None or not self._connected or self._operator.emergency():
            return
        self._status(RobotState.PARKING)
        safety = self._settings.safety
        limit_s = min(safety.park_limit_s, PARK_AT_STOP_S) if self._stop.is_set() else safety.park_limit_s

        def see(seen: Observation) -> bool:
            self._see(seen)
            return False

        try:
            if not self._loop.move(self._around.park_pose, safety.park_speed_per_s, limit_s, see):
                log.warning("the arm did not reach its park pose", limit_s=limit_s)
        except (RobotError, UnsafeActionError) as error:
            log.error("the arm stays where it is", error=str(error))

    def _rest(self, seconds: float) -> None:
        """Wait, and keep the live pictures live. Ends early when someone asks to drain."""
        until_s = time.monotonic() + seconds
        while not self._stop.is_set() and (left_s := until_s - time.monotonic()) > 0:
            if self._state not in (RobotState.DRAINED, RobotState.ESTOPPED) and self._wanted_to_rest():
                if self._moments:
                    self._show()
                return
            self._show()
            self._stop.wait(min(1 / self._settings.control_hz if self._moments else PREVIEW_S, left_s))

    def _show(self) -> None:
        """Live pictures, or another sign of life."""
        try:
            if self._connected:
                seen = self._robot.observe()
                # A spool that is full takes no saved seconds either.
                if self._moments and self._state is not RobotState.SPOOL_FULL:
                    self._moments.see(seen)
                else:
                    self._recorder.preview(seen)
                return
        except RobotError as error:
            log.warning("no live picture", error=str(error))
            if self._moments:
                self._moments.fault(str(error))
                self._stop.wait(PREVIEW_S)
        self._status(self._state, self._detail)

    def _wanted_to_rest(self) -> bool:
        if self._operator.emergency():
            return True
        try:
            return bool(self._around.asked_to_rest())
        except OSError:  # the look before the next episode says so, and begins none
            return False

    def _next_seed(self) -> int:
        """Scenes count up from the setting, or from the clock, so that a restart does not repeat them."""
        if self._seed is None:
            self._seed = time.time_ns() // 1000 % 2**31
        self._seed += 1
        return self._seed - 1

    def _info(self, seed: int) -> EpisodeInfo:
        return EpisodeInfo(
            episode_id=uuid.uuid4().hex,
            robot=self._robot.info,
            policy=self._pilot.policy,
            task=self._around.task(),
            fps=self._settings.control_hz,
            agent_version=__version__,
            started_wall_ns=time.time_ns(),
            started_monotonic_ns=time.monotonic_ns(),
            seed=seed,
        )

    def _no_policys(self) -> EpisodeInfo:
        return replace(self._info(0), policy=None, seed=None)

    def _status(self, state: RobotState, detail: str = "") -> None:
        self._state, self._detail = state, detail
        policy = self._pilot.policy.reference() if self._pilot.policy else None
        self._recorder.status({"state": state, "detail": detail, "task": self._around.task(), "policy": policy})
