"""Builds what `lefleet-agent replay` needs."""

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lefleet_agent import __version__
from lefleet_agent.config import AgentSettings
from lefleet_agent.control.chunks import Mode, Player
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.ended import Ended
from lefleet_agent.control.judge import SceneJudge
from lefleet_agent.control.loop import ControlLoop, Pace
from lefleet_agent.control.operator import Operator
from lefleet_agent.control.safety import Freshness, UnsafeActionError
from lefleet_agent.episode import Action, EpisodeInfo, RobotInfo
from lefleet_agent.occupied import arm_held
from lefleet_agent.policies.inline import InlineRunner
from lefleet_agent.policies.recorded import RecordedPolicy
from lefleet_agent.recording.recorded import RecordedEpisode
from lefleet_agent.replay import Comparison, Plan, ReplayError, check, document, start_position, travel_limit_s
from lefleet_agent.requests import emergency_stop
from lefleet_agent.robot import Robot
from lefleet_agent.wiring import build_limits, build_robot


class Stoppable:
    """What a person asks for, where Ctrl-C also ends the way to the start."""

    def __init__(self, operator: Operator, stop: threading.Event) -> None:
        self._operator = operator
        self._stop = stop

    def emergency(self) -> str | None:
        return self._operator.emergency() or ("stopped" if self._stop.is_set() else None)

    def wants(self) -> Ended | None:
        return self._operator.wants()


@dataclass(frozen=True, slots=True)
class Wish:
    """How an episode is to be played."""

    speed: float
    requested: bool
    force: bool


def replay_episode(
    settings: AgentSettings, path: Path, wish: Wish, warn: Callable[[str], None], stop: threading.Event
) -> dict[str, Any]:
    """Play the episode on this robot; returns the report, of an interrupted one too.
    Raises OccupiedError, EpisodeFileError, ReplayError, RobotError."""
    with arm_held(settings.state_dir / "run", "replay", "both would move the arm"):
        return _replay(settings, path, wish, warn, stop)


def _replay(
    settings: AgentSettings, path: Path, wish: Wish, warn: Callable[[str], None], stop: threading.Event
) -> dict[str, Any]:
    from lefleet_agent.recording.episode_file import read_episode

    run = settings.state_dir / "run"
    episode = read_episode(path)
    # The loop, its limits and a simulator's physics go at the rate at which the actions are played.
    settings = settings.model_copy(update={"control_hz": episode.fps * wish.speed})
    robot = build_robot(settings)
    if warning := check(episode, robot.info, wish.force):
        warn(warning)
    plan, operator = Plan.of(episode, wish.requested), Operator(emergency_stop(settings.state_dir), run, stop)
    wishes, seen = Stoppable(operator, stop), Comparison(plan)
    hz, hold_limit_s = settings.control_hz, settings.safety.hold_limit_s
    limits, pace = build_limits(robot.info, settings), Pace(hz, hold_limit_s)
    freshness = Freshness(settings.safety.joints_max_age_s, settings.safety.image_max_age_s)
    loop = ControlLoop(robot, limits, freshness, seen, SystemClock(), pace, wishes)
    robot.connect()
    try:
        robot.reset(episode.seed or 0)
        operator.forget()
        lead(loop, robot, start_position(plan, limits.low, limits.high), settings.safety.park_speed_per_s, wishes)
        judge = SceneJudge(robot.outcome) if robot.info.simulated and episode.seed is not None else None
        player = Player(InlineRunner(RecordedPolicy(plan.actions)), Mode.SYNC, hz, 0.0, SystemClock())
        ended = loop.run(_info(episode, robot.info, settings), player, len(plan.actions) / hz, judge)
    finally:
        robot.disconnect()
    told = {"outcome": str(ended.outcome), "interrupted": ended.interrupted, "reason": ended.reason}
    return document(episode, robot.info, plan, seen, told | {"speed": wish.speed, "requested": wish.requested})


def lead(loop: ControlLoop, robot: Robot, start: Action, speed_per_s: float, wishes: Stoppable) -> None:
    """Slowly to where the episode begins. Raises ReplayError when it does not get there."""
    limit_s = travel_limit_s(robot.observe().joints, start, speed_per_s)
    try:
        arrived = loop.move(start, speed_per_s, limit_s)
    except UnsafeActionError as error:
        raise ReplayError(f"the arm stays where it is: {error}") from error
    if not arrived:
        why = wishes.emergency() or f"it was not reached within {limit_s:.0f} s (safety.park_speed_per_s)"
        raise ReplayError(f"the arm did not go to the episode's first position: {why}; it stays where it is")


def _info(episode: RecordedEpisode, robot: RobotInfo, settings: AgentSettings) -> EpisodeInfo:
    return EpisodeInfo(
        uuid.uuid4().hex, robot, None, episode.task, settings.control_hz, __version__, time.time_ns(),
        time.monotonic_ns(), episode.seed, {"replay_of": episode.episode_id},
    )  # fmt: skip
