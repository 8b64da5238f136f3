"""One episode: a fixed-rate loop from observation to sent action, every tick handed to the recorder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lefleet_agent.control.clock import Clock, Schedule
from lefleet_agent.control.driver import Driver, Planned
from lefleet_agent.control.ended import Cause, Ended
from lefleet_agent.control.hold import Hold
from lefleet_agent.control.judge import Judge
from lefleet_agent.control.safety import Freshness, Limits, UnsafeActionError, approach, clamp, stale
from lefleet_agent.episode import Action, EpisodeInfo, Frame, Observation, Outcome
from lefleet_agent.policy import PolicyError
from lefleet_agent.robot import Robot, RobotError

ARRIVED = 0.25
"""Degrees, or percent of the gripper: some steps of a motor's encoder."""


class EpisodeSink(Protocol):
    """Where ticks go. `add` never waits; `begin` and `end` may, because the arm rests then."""

    def begin(self, info: EpisodeInfo) -> None: ...

    def add(self, frame: Frame) -> bool:
        """False when there was no room: the frame is dropped and counted."""

    def end(self, outcome: Outcome, interrupted: bool, reason: str) -> None: ...


class Wishes(Protocol):
    """What a person asks for while the arm moves; see `lefleet_agent.control.operator`."""

    def emergency(self) -> str | None: ...

    def wants(self) -> Ended | None: ...


@dataclass(frozen=True)
class Pace:
    """How the arm is driven."""

    hz: float
    hold_limit_s: float = 2.0
    """Longest time that the arm holds still for want of actions or of fresh observations; then the episode ends."""


class ControlLoop:
    """Moves `robot` as a driver decides and `wishes` allow."""

    def __init__(
        self,
        robot: Robot,
        limits: Limits,
        freshness: Freshness,
        sink: EpisodeSink,
        clock: Clock,
        pace: Pace,
        wishes: Wishes,
    ) -> None:
        self._robot = robot
        self._limits = limits
        self._freshness = freshness
        self._sink = sink
        self._clock = clock
        self._pace = pace
        self._wishes = wishes

    def run(self, info: EpisodeInfo, driver: Driver, time_limit_s: float, judge: Judge | None) -> Ended:
        """Run and record one episode. `judge` says whether the task is done; without one the outcome is unknown.

        What goes wrong with the robot or the driver ends the episode as interrupted; the arm holds its position.
        Before the driver is ready nothing is recorded: then it raises RobotError or PolicyError.
        """
        seen = self._robot.observe()
        if not driver.ready(info.task, seen, lambda: self._wishes.wants() is not None):
            return self._wishes.wants() or Ended(Outcome.UNKNOWN, True, "stopped", Cause.STOPPED)
        self._sink.begin(info)
        if judge:
            judge.begin()
        ended = Ended(Outcome.UNKNOWN, True, "the control process failed", Cause.POLICY)
        try:
            ended = self._ticks(driver, seen.joints, round(time_limit_s * self._pace.hz), judge)
        except RobotError as error:
            ended = Ended(Outcome.UNKNOWN, True, str(error), Cause.ROBOT)
        except (PolicyError, UnsafeActionError) as error:
            ended = Ended(Outcome.UNKNOWN, True, str(error), Cause.POLICY)
        finally:
            self._sink.end(ended.outcome, ended.interrupted, ended.reason)
        return ended

    def lead(self, driver: Driver, done: Callable[[Observation, str], bool]) -> bool:
        """Let `driver` move the arm without recording it, until `done` (asked after each tick, with what the arm
        holds still for, if it does); False for an emergency stop. Raises RobotError, UnsafeActionError."""
        seen = self._robot.observe()
        driver.ready("", seen, lambda: False)
        last, schedule = seen.joints, Schedule(self._clock, self._pace.hz)
        while True:
            at = schedule.wait()
            if self._wishes.emergency():
                return False
            step = self._step(driver, last, *at)
            last = step.frame.sent
            if done(step.frame.observation, step.stale or step.planned.why):
                return True

    def move(
        self, target: Action, speed_per_s: float, limit_s: float, done: Callable[[Observation], bool] = lambda _: False
    ) -> bool:
        """Lead the arm to `target` slowly, without a policy; False when it was not reached, for an emergency stop,
        for the limit or because of `done`, asked at each tick. Raises RobotError, UnsafeActionError."""
        names = self._robot.info.joint_names
        slow = Limits(
            self._limits.low,
            self._limits.high,
            np.minimum(self._limits.slew_per_tick, np.float32(speed_per_s / self._pace.hz)),
        )
        last = self._robot.observe().joints
        schedule = Schedule(self._clock, self._pace.hz)
        for _ in range(round(limit_s * self._pace.hz)):
            schedule.wait()
            if self._wishes.emergency() or done(self._robot.observe()):
                return False
            wanted = clamp(target, last, slow, names)
            sent = self._robot.send(wanted)
            if (np.abs(sent - target) < ARRIVED).all():
                return True
            # Motors take whole steps: a slow way goes on from what was wanted, unless it was not sent at all.
            last = np.where(np.abs(sent - wanted) < ARRIVED, wanted, sent)
        return False

    def _ticks(self, driver: Driver, last: Action, limit: int, judge: Judge | None) -> Ended:
        schedule, hold = Schedule(self._clock, self._pace.hz), Hold(self._pace.hold_limit_s)
        for _ in range(limit):
            tick_ns, lateness_ns = schedule.wait()
            if ended := self._wishes.wants():
                return ended
            step = self._step(driver, last, tick_ns, lateness_ns)
            last = step.frame.sent
            self._sink.add(step.frame)
            if ended := hold.over(tick_ns, step.planned, step.stale):
                return ended
            if judge and (done := judge.done(step.frame.observation)):
                return Ended(Outcome.SUCCESS, interrupted=False, reason=done)
        return Ended(judge.missed if judge else Outcome.UNKNOWN, interrupted=False, reason="time limit")

    def _step(self, driver: Driver, last: Action, tick_ns: int, lateness_ns: int) -> "_Step":
        wall_ns = self._clock.wall_ns()
        seen = self._robot.observe()
        read_ns = self._clock.monotonic_ns()
        why = stale(seen, read_ns, driver.cameras, self._freshness)
        planned = driver.hold() if why else driver.next(seen, last)
        requested = last if planned.action is None else planned.action
        wanted = approach(requested, last, planned.join_ticks)
        planned_ns = self._clock.monotonic_ns()
        sent = self._robot.send(clamp(wanted, last, self._limits, self._robot.info.joint_names))
        sent_ns = self._clock.monotonic_ns()
        arrived = planned.arrived
        frame = Frame(
            seen,
            requested,
            sent,
            tick_ns,
            wall_ns,
            lateness_ns,
            inference_ns=arrived.inference_ns if arrived else 0,
            preprocess_ns=arrived.preprocess_ns if arrived else 0,
            read_ns=read_ns - tick_ns,
            send_ns=sent_ns - planned_ns,
            observed_ns=planned.observed_ns,
            held=planned.action is None,
            intervention=planned.intervention,
        )
        return _Step(frame, planned, why)


@dataclass(frozen=True, slots=True)
class _Step:
    frame: Frame
    planned: Planned
    stale: str | None
    """What of the robot's was too old to act on."""
