"""What brings a real arm to the start of its next episode. A simulated one sets its scene up by itself."""

from collections.abc import Callable
from typing import Protocol

from lefleet_agent.control.driver import Driver
from lefleet_agent.control.loop import ControlLoop
from lefleet_agent.control.operator import Operator
from lefleet_agent.episode import Action, Observation
from lefleet_agent.robot import RobotError

type Tell = Callable[[Observation, str], bool]
"""Called at each tick on the way, with what the arm holds still for; True ends the reset, without an episode."""


class Reset(Protocol):
    waits_for: str
    """For people; empty where it waits for nobody."""

    def run(self, tell: Tell) -> bool:
        """Whether an episode may begin. Raises RobotError, UnsafeActionError."""


class NoReset:
    """The scene is set by a person in the pause, or by the simulator."""

    waits_for = ""

    def run(self, tell: Tell) -> bool:
        del tell
        return True


class PoseReset:
    """The arm is led slowly to a pose."""

    waits_for = ""

    def __init__(self, loop: ControlLoop, operator: Operator, pose: Action, speed_per_s: float, limit_s: float) -> None:
        self._loop = loop
        self._operator = operator
        self._pose = pose
        self._speed_per_s = speed_per_s
        self._limit_s = limit_s

    def run(self, tell: Tell) -> bool:
        ended = False

        def done(seen: Observation) -> bool:
            nonlocal ended
            ended = tell(seen, "")
            return ended

        if self._loop.move(self._pose, self._speed_per_s, self._limit_s, done):
            return True
        if ended or self._operator.emergency():
            return False
        raise RobotError(
            f"the arm did not come to reset_pose within {self._limit_s:g} s (safety.park_limit_s); is something in its "
            "way, or is it too far at safety.park_speed_per_s?"
        )


class LeaderReset:
    """The arm follows the leader arm until the person who leads it says so."""

    waits_for = "follows the leader arm; `lefleet-agent begin` begins the episode"

    def __init__(self, loop: ControlLoop, operator: Operator, driver: Driver) -> None:
        self._loop = loop
        self._operator = operator
        self._driver = driver

    def run(self, tell: Tell) -> bool:
        self._operator.forget()  # a word that came before anyone could know what it is about
        began = False

        def done(seen: Observation, why: str) -> bool:
            nonlocal began
            began = self._operator.begins()
            return began or tell(seen, why)

        return self._loop.lead(self._driver, done) and began
