"""How long an arm may hold still before its episode ends."""

from lefleet_agent.control.driver import Planned
from lefleet_agent.control.ended import Cause, Ended
from lefleet_agent.episode import Outcome


class Hold:
    """Counts how long the arm has held still for want of something."""

    def __init__(self, limit_s: float) -> None:
        self._limit_ns = round(limit_s * 1e9)
        self._since_ns: int | None = None

    def over(self, now_ns: int, planned: Planned, stale: str | None) -> Ended | None:
        """The episode's end when the limit has passed. `stale`: what of the robot's was too old to act on."""
        if planned.action is not None:
            self._since_ns = None
            return None
        self._since_ns = now_ns if self._since_ns is None else self._since_ns
        if now_ns - self._since_ns < self._limit_ns:
            return None
        if stale:
            return Ended(Outcome.UNKNOWN, True, stale, Cause.ROBOT)
        if planned.why:
            return Ended(Outcome.UNKNOWN, True, planned.why, Cause.LEADER)
        reason = f"the policy gave no actions for {self._limit_ns * 1e-9:g} s"
        return Ended(Outcome.UNKNOWN, True, reason, Cause.POLICY)
