"""The drivers with a person in them: one who leads the arm all the time, and one who takes over from a policy."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lefleet_agent.control.chunks import Player
from lefleet_agent.control.clock import Clock
from lefleet_agent.control.driver import Planned
from lefleet_agent.episode import Action, Observation
from lefleet_agent.leader import Leader, LeaderError


class Join:
    """Counts the ticks in which the arm comes from where it is to where a new driver wants it."""

    def __init__(self, seconds: float, hz: float) -> None:
        self._ticks = max(1, round(seconds * hz))
        self._left = 1

    def restart(self) -> None:
        self._left = self._ticks

    def over(self) -> None:
        self._left = 1

    def next(self) -> int:
        left, self._left = self._left, max(1, self._left - 1)
        return left


class Following:
    """A Driver: the arm goes where the leader arm is; it joins it anew after each time that it could not."""

    def __init__(self, leader: Leader, clock: Clock, hz: float, join_s: float, pose_max_age_s: float) -> None:
        """`join_s`: how long it takes to come to the leader's pose. `pose_max_age_s`: poses older are not followed."""
        self._leader = leader
        self._clock = clock
        self._max_age_s = pose_max_age_s
        self._join = Join(join_s, hz)

    @property
    def cameras(self) -> tuple[str, ...]:
        """None: a person has eyes, and can bring an arm to rest whose camera froze."""
        return ()

    def ready(self, task: str, seen: Observation, give_up: Callable[[], bool]) -> bool:
        del task, seen, give_up
        self.begin()
        return True

    def begin(self) -> None:
        self._join.restart()

    def next(self, seen: Observation, last: Action) -> Planned:
        del seen, last
        try:
            pose = self._leader.pose()
        except LeaderError as error:
            return self._lacking(str(error))
        age_s = (self._clock.monotonic_ns() - pose.read_monotonic_ns) * 1e-9
        if age_s > self._max_age_s:
            return self._lacking(f"the leader arm was last read {age_s:.1f} s ago; check its bus")
        if not np.isfinite(pose.joints).all():
            return self._lacking("the leader arm gives joint positions that are not finite")
        return Planned(pose.joints, pose.read_monotonic_ns, join_ticks=self._join.next())

    def hold(self) -> Planned:
        self._join.restart()  # the leader may be anywhere when the arm goes on
        return Planned(None)

    def _lacking(self, why: str) -> Planned:
        return replace(self.hold(), why=why)


class Assisted:
    """A Driver: the policy drives, and people while `taken_over` names any.

    What the policy had planned is never played on after that: it is asked anew, from what is seen then.
    """

    def __init__(self, player: Player, following: Following, join: Join, taken_over: Callable[[], list[str]]) -> None:
        """`join`: from where the person left the arm to the policy's actions. `taken_over`: who leads it now."""
        self._player = player
        self._following = following
        self._join = join
        self._taken_over = taken_over
        self._led = False
        self._task = ""

    @property
    def cameras(self) -> tuple[str, ...]:
        return (self._following if self._led else self._player).cameras

    def ready(self, task: str, seen: Observation, give_up: Callable[[], bool]) -> bool:
        self._task, self._led = task, False
        self._join.over()
        return self._player.ready(task, seen, give_up)

    def next(self, seen: Observation, last: Action) -> Planned:
        self._switch()
        if self._led:
            return replace(self._following.next(seen, last), intervention=True)
        planned = self._player.next(seen, last)
        return planned if planned.action is None else replace(planned, join_ticks=self._join.next())

    def hold(self) -> Planned:
        self._switch()
        return replace(self._following.hold() if self._led else self._player.hold(), intervention=self._led)

    def _switch(self) -> None:
        try:
            led = bool(self._taken_over())
        except OSError:  # a disk that is gone neither gives the arm to anyone nor takes it away
            return
        if led and not self._led:
            self._following.begin()
        if self._led and not led:
            self._player.begin(self._task)
            self._join.restart()
        self._led = led
