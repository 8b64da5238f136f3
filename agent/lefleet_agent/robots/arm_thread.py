"""The one thread that talks to an arm's motors: it writes the newest target, reads the joints, asks for health.

Control takes the newest reading without waiting. A target is on the bus when `send` returns it; when the bus is stuck
for longer than a few milliseconds the target is withdrawn instead, and `send` returns the one that the motors still
have: what is recorded, and what the slew limit builds on, is always what was sent.
"""

import threading
import time
from dataclasses import dataclass

import structlog

from lefleet_agent.episode import Action, ArmHealth, Floats, MotorHealth
from lefleet_agent.realtime import Rank, follow
from lefleet_agent.robot import RobotDisconnected, RobotError
from lefleet_agent.robots.driver import ArmDriver, BusFault

log = structlog.get_logger()

SEND_WAIT_S = 0.02
HEALTH_PERIOD_S = 0.5
TELL_PERIOD_S = 30.0


@dataclass(frozen=True, slots=True)
class Reading:
    joints: Floats
    monotonic_ns: int
    """Between asking the motors and having their answers."""


class ArmThread:
    """Of one connection: after `stop`, or a failure, make another. The driver must be open."""

    def __init__(
        self, driver: ArmDriver, joint_names: tuple[str, ...], hz: float, silence_s: float, before: ArmHealth
    ) -> None:
        """`before`: counts to go on from."""
        self._driver = driver
        self._joint_names = joint_names
        self._period_s = 1 / hz
        self._silence_s = silence_s
        self._changed = threading.Condition()
        self._stopped = False
        self._failure: RobotError | None = None
        self._reading: Reading | None = None
        self._goal: Action | None = None
        self._sent: Action | None = None
        self._motors: dict[str, MotorHealth] = dict(before.motors)
        self._errors = dict(before.errors)
        self._reads, self._reads_failed, self._withheld = before.reads, before.reads_failed, before.goals_withheld
        self._asked = 0
        self._health_due_s = self._tell_due_s = time.monotonic()
        self._answered_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="arm", daemon=True)

    def start(self) -> None:
        """Returns with a first reading. Raises RobotError."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._reading or self._failure, self._silence_s * 2)
        self.newest()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(self._silence_s * 4)
        if self._thread.is_alive():
            log.error("the arm's bus does not come back from a call; its thread is left behind")

    def newest(self) -> Reading:
        """Never waits. Raises RobotDisconnected when the bus is gone, RobotError when a motor gave up."""
        with self._changed:
            self._raise_failure()
            if self._reading is None or time.monotonic() - self._answered_s > self._silence_s * 2:
                raise RobotDisconnected(
                    "the arm's serial port hangs in a call; unplug the USB cable and plug it in again"
                )
            return self._reading

    def send(self, action: Action) -> Action:
        """Waits until the target is on the bus, at most SEND_WAIT_S; returns what the motors really got."""
        with self._changed:
            self._goal, before = action, self._sent
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._sent is not before or self._failure, SEND_WAIT_S)
            self._raise_failure()
            if self._sent is before and self._goal is not None:
                self._goal = None
                self._withheld += 1
            if self._sent is None:
                return self._reading.joints if self._reading else action
            return self._sent

    def health(self) -> ArmHealth:
        with self._changed:
            return ArmHealth(dict(self._motors), dict(self._errors), self._reads, self._reads_failed, self._withheld)

    def _raise_failure(self) -> None:
        if self._failure:
            raise type(self._failure)(str(self._failure))

    def _run(self) -> None:
        follow(Rank.BUS)
        read_due_s = time.monotonic()
        try:
            while (goal := self._next_goal(read_due_s)) is not None or not self._stopped:
                if goal is not None:
                    self._write(goal)
                if (now_s := time.monotonic()) >= read_due_s:
                    self._read()
                    self._ask_health()
                    read_due_s = max(read_due_s + self._period_s, now_s)
        except RobotError as error:
            self._fail(error)
        except Exception as error:  # the top of the thread: a plugin's driver may raise anything
            log.exception("the arm's driver failed")
            self._fail(RobotError(f"the arm's driver failed: {type(error).__name__}: {error}"))

    def _next_goal(self, read_due_s: float) -> Action | None:
        """Wait for a target until the next reading is due."""
        with self._changed:
            self._changed.wait_for(lambda: self._goal is not None or self._stopped, read_due_s - time.monotonic())
            goal, self._goal = self._goal, None
            return None if self._stopped else goal

    def _write(self, goal: Action) -> None:
        try:
            sent = self._driver.write(goal)
        except BusFault as fault:
            self._count(fault)
            return
        with self._changed:
            self._sent = sent
            self._changed.notify_all()

    def _read(self) -> None:
        asked_ns = time.monotonic_ns()
        try:
            joints = self._driver.read()
        except BusFault as fault:
            self._reads_failed += 1
            self._count(fault)
            if time.monotonic() - self._answered_s > self._silence_s:
                raise RobotDisconnected(self._driver.diagnosis()) from fault
            return
        now_ns = time.monotonic_ns()
        with self._changed:
            self._reads += 1
            self._reading = Reading(joints, (asked_ns + now_ns) // 2)
            self._answered_s = now_ns * 1e-9
            self._changed.notify_all()

    def _ask_health(self) -> None:
        """One motor at a time, seldom: it costs as much of the bus as a reading."""
        if time.monotonic() < self._health_due_s:
            return
        self._health_due_s = time.monotonic() + HEALTH_PERIOD_S
        joint = self._joint_names[self._asked % len(self._joint_names)]
        self._asked += 1
        try:
            health = self._driver.health(joint)
        except BusFault as fault:
            self._count(fault)
            return
        if health and health.alarms:
            self._count(BusFault(f"{joint}: the motor reports {', '.join(health.alarms)}", joint))
        if health:  # after its count: who sees the alarm sees it counted
            with self._changed:
                self._motors[joint] = health

    def _count(self, fault: BusFault) -> None:
        now_s = time.monotonic()
        if now_s >= self._tell_due_s:  # each is in the counts; the log needs one now and then
            self._tell_due_s = now_s + TELL_PERIOD_S
            log.warning("an exchange with the arm failed", joint=fault.joint, reason=str(fault))
        if fault.joint:
            with self._changed:
                self._errors[fault.joint] = self._errors.get(fault.joint, 0) + 1

    def _fail(self, error: RobotError) -> None:
        log.error("the arm's bus ends", reason=str(error))
        with self._changed:
            self._failure = error
            self._changed.notify_all()
