"""What a person may ask of control: an emergency stop, an episode's beginning, its end with its outcome,
the seconds before now."""

import contextlib
from pathlib import Path
from threading import Event

from lefleet_agent.control.ended import Cause, Ended
from lefleet_agent.episode import Outcome
from lefleet_agent.requests import Requests

VERDICT = "verdict"
BEGIN = "begin"
MOMENT = "moment"


class Operator:
    """Asked at every tick: two looks at what the kernel has at hand, some microseconds."""

    def __init__(self, emergency: Requests, run: Path, stop: Event) -> None:
        """`stop`: the process is to end. `run`: where `lefleet-agent outcome`, `begin`, `save-moment` leave a word."""
        self._emergency = emergency
        self._verdict = run / VERDICT
        self._begin = run / BEGIN
        self._moment = run / MOMENT
        self._stop = stop

    def emergency(self) -> str | None:
        """Why the arm must hold still now, or None."""
        try:
            who = self._emergency.asked_by()
        except OSError:  # a disk that is gone takes no stop back, and gives none: the arm goes on
            return None
        if not who:
            return None
        return f"emergency stop, asked by {', '.join(who)}; `lefleet-agent estop --clear --by all` goes on"

    def wants(self) -> Ended | None:
        """How the running episode is to end at this tick, or None."""
        if why := self.emergency():
            return Ended(Outcome.UNKNOWN, True, why, Cause.EMERGENCY)
        if self._stop.is_set():
            return Ended(Outcome.UNKNOWN, True, "stopped", Cause.STOPPED)
        if self._verdict.exists() and (outcome := self._take_verdict()):
            return Ended(outcome, False, "the operator ended it", Cause.OPERATOR)
        return None

    def begins(self) -> bool:
        """Whether the episode is to begin that a person prepares; said once."""
        try:
            self._begin.unlink()
        except OSError:
            return False
        return True

    def moment(self) -> str | None:
        """What somebody calls the seconds that are to be saved; said once."""
        try:
            word = self._moment.read_text(errors="replace").strip()
            self._moment.unlink()
        except OSError:
            return None
        return word or "saved by hand"

    def forget(self) -> None:
        """Drop words that were meant for an episode that is over."""
        with contextlib.suppress(OSError):  # a disk that cannot be written: the word stays, and so does the arm's work
            self._verdict.unlink(missing_ok=True)
            self._begin.unlink(missing_ok=True)

    def _take_verdict(self) -> Outcome | None:
        try:
            word = self._verdict.read_text().strip()
            self._verdict.unlink(missing_ok=True)
            return Outcome(word)
        except (OSError, ValueError):
            return None
