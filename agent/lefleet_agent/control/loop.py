"""One episode: a fixed-rate loop from observation to sent action, every tick handed to the recorder."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Protocol

import numpy as np

from lefleet_agent.control.clock import Clock, Schedule
from lefleet_agent.control.safety import Limits, UnsafeActionError, clamp
from lefleet_agent.episode import Action, EpisodeInfo, Floats, Frame, Observation, Outcome
from lefleet_agent.policy import Policy, PolicyError
from lefleet_agent.robot import Robot, RobotError


class EpisodeSink(Protocol):
    """Where ticks go. `add` never waits; `begin` and `end` may, because the arm rests then."""

    def begin(self, info: EpisodeInfo) -> None: ...

    def add(self, frame: Frame) -> bool:
        """False when there was no room: the frame is dropped and counted."""

    def end(self, outcome: Outcome, interrupted: bool, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Ended:
    outcome: Outcome
    interrupted: bool
    reason: str


class ControlLoop:
    """Drives `robot` with `policy`; `stop` ends the running episode at the next tick."""

    def __init__(self, robot: Robot, limits: Limits, sink: EpisodeSink, clock: Clock, hz: float, stop: Event) -> None:
        self._robot = robot
        self._limits = limits
        self._sink = sink
        self._clock = clock
        self._hz = hz
        self._stop = stop

    def run(self, info: EpisodeInfo, policy: Policy, time_limit_s: float, judge: Callable[[], Outcome] | None) -> Ended:
        """Run and record one episode. `judge` says whether the task is done; without one the outcome is unknown.

        What goes wrong with the robot or the policy ends the episode as interrupted; the arm holds its position.
        """
        self._sink.begin(info)
        ended = Ended(Outcome.UNKNOWN, interrupted=True, reason="the control process failed")
        try:
            ended = self._ticks(info, policy, round(time_limit_s * self._hz), judge)
        except (RobotError, PolicyError, UnsafeActionError) as error:
            ended = Ended(Outcome.UNKNOWN, interrupted=True, reason=str(error))
        finally:
            self._sink.end(ended.outcome, ended.interrupted, ended.reason)
        return ended

    def _ticks(self, info: EpisodeInfo, policy: Policy, limit: int, judge: Callable[[], Outcome] | None) -> Ended:
        names = info.robot.joint_names
        policy.reset()
        plan = Plan(policy, info.task, self._clock)
        last = self._robot.observe().joints
        schedule = Schedule(self._clock, self._hz)
        for _ in range(limit):
            tick_ns, lateness_ns = schedule.wait()
            if self._stop.is_set():
                return Ended(Outcome.UNKNOWN, interrupted=True, reason="stopped")
            wall_ns = self._clock.wall_ns()
            seen = self._robot.observe()
            requested, inference_ns = plan.next(seen)
            last = self._robot.send(clamp(requested, last, self._limits, names))
            self._sink.add(Frame(seen, requested, last, tick_ns, wall_ns, lateness_ns, inference_ns))
            if judge and judge() is Outcome.SUCCESS:
                return Ended(Outcome.SUCCESS, interrupted=False, reason="task done")
        return Ended(Outcome.FAILURE if judge else Outcome.UNKNOWN, interrupted=False, reason="time limit")


class Plan:
    """The action chunk that is playing; asks the policy for another when it has run out."""

    def __init__(self, policy: Policy, task: str, clock: Clock) -> None:
        self._policy = policy
        self._task = task
        self._clock = clock
        self._actions: Floats = np.empty((0, 0), np.float32)
        self._position = 0

    def next(self, seen: Observation) -> tuple[Action, int]:
        """The action for this tick, and the nanoseconds that computing a new chunk took (0 if none)."""
        inference_ns = 0
        if self._position == len(self._actions):
            start_ns = self._clock.monotonic_ns()
            self._actions = self._policy.infer(seen, self._task).actions
            self._position = 0
            inference_ns = self._clock.monotonic_ns() - start_ns
        action = self._actions[self._position]
        self._position += 1
        return action, inference_ns
