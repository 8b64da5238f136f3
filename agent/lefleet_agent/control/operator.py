"""What a person may ask of control while it drives: an emergency stop, the end of an episode with its outcome."""

import contextlib
from pathlib import Path
from threading import Event

from lefleet_agent.control.ended import Cause, Ended
from lefleet_agent.episode import Outcome
from lefleet_agent.requests import Requests

VERDICT = "verdict"


class Operator:
    """Asked at every tick: two looks at what the kernel has at hand, some microseconds."""

    def __init__(self, emergency: Requests, run: Path, stop: Event) -> None:
        """`stop`: the process is to end. `run`: the folder in which `lefleet-agent outcome` leaves its word."""
        self._emergency = emergency
        self._verdict = run / VERDICT
        self._stop = stop

    def emergency(self) -> str | None:
        """Why the arm must hold still now, or None."""
        try:
            who = self._emergency.asked_by()
        except OSError:  # a disk that is gone takes no stop back, and gives none: the arm goes on
            return None
        return (
            f"emergency stop, asked by {', '.join(who)}; `lefleet-agent estop --clear --by all` goes on"
            if who
            else None
        )

    def wants(self) -> Ended | None:
        """How the running episode is to end at this tick, or None."""
        if why := self.emergency():
            return Ended(Outcome.UNKNOWN, True, why, Cause.EMERGENCY)
        if self._stop.is_set():
            return Ended(Outcome.UNKNOWN, True, "stopped", Cause.STOPPED)
        if self._verdict.exists() and (outcome := self._take_verdict()):
            return Ended(outcome, False, "the operator ended it", Cause.OPERATOR)
        return None

    def forget(self) -> None:
        """Drop a word that was meant for an episode that is over."""
        with contextlib.suppress(OSError):  # a disk that cannot be written: the word stays, and so does the arm's work
            self._verdict.unlink(missing_ok=True)

    def _take_verdict(self) -> Outcome | None:
        try:
            word = self._verdict.read_text().strip()
            self._verdict.unlink(missing_ok=True)
            return Outcome(word)
        except (OSError, ValueError):
            return None
