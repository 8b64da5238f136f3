"""What a person may ask of control: an emergency stop, an episode's beginning, its end with its outcome,
the seconds before now."""

import contextlib
from pathlib import Path
from threading import Event

from lefleet_agent.control.ended import Cause, Ended
from lefleet_agent.episode import Outcome
from lefleet_agent.requests import Requests
from lefleet_agent.verdict import BEGIN, MOMENT, VERDICT, Verdict, Word, read


class Operator:
    """Asked at every tick: two looks at what the kernel has at hand, some microseconds."""

    def __init__(self, emergency: Requests, run: Path, stop: Event) -> None:
        """`stop`: the process is to end. `run`: where `lefleet-agent outcome`, `begin`, `save-moment` leave a word."""
        self._emergency = emergency
        self._verdict = run / VERDICT
        self._begin = run / BEGIN
        self._moment = run / MOMENT
        self._stop = stop
        self._asked_by: list[str] = []
        self._episode_id = ""

    def emergency(self) -> str | None:
        """Why the arm must hold still now, or None."""
        with contextlib.suppress(OSError):  # a disk that is gone takes no stop back, and gives none: as last seen
            self._asked_by = self._emergency.asked_by()
        if not self._asked_by:
            return None
        who = ", ".join(self._asked_by)
        return f"emergency stop, asked by {who}; `lefleet-agent estop --clear --by all` goes on"

    def wants(self) -> Ended | None:
        """How the running episode is to end at this tick, or None."""
        if why := self.emergency():
            return Ended(Outcome.UNKNOWN, True, why, Cause.EMERGENCY)
        if self._stop.is_set():
            return Ended(Outcome.UNKNOWN, True, "stopped", Cause.STOPPED)
        return self._take_verdict() if self._verdict.exists() else None

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

    def watch(self, episode_id: str) -> None:
        """The episode that runs from now on: what is said of another one ends nothing."""
        self._episode_id = episode_id

    def _take_verdict(self) -> Ended | None:
        try:
            said = read(self._verdict.read_text())
            self._verdict.unlink(missing_ok=True)
        except (OSError, UnicodeDecodeError):
            return None
        if said is None or said.episode_id not in ("", self._episode_id):
            return None
        return _ended(said)


def _ended(said: Verdict) -> Ended:
    reason = f"the operator ended it{f': {said.by}' if said.by else ''}"
    if said.word is Word.REDO:
        return Ended(Outcome.UNKNOWN, True, f"{reason}, to do it again", Cause.OPERATOR)
    return Ended(Outcome(said.word), False, reason, Cause.OPERATOR)
