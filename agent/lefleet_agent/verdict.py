"""A person's word about the running episode, left for control as a file in the run folder.

`verdict` holds a bare word, as a pedal's script writes it, or a JSON object with `word`, `by` and `episode_id`.
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from lefleet_agent.files import replace

VERDICT = "verdict"
BEGIN = "begin"
"""Left empty: the episode begins that waits for it."""
MOMENT = "moment"
"""Holds what somebody calls the seconds before now, which are to be saved."""


class Word(StrEnum):
    """What may be said; each ends the episode."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"
    REDO = "redo"
    """It does not count and is to be done again: kept, as interrupted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    word: Word
    by: str = ""
    """Who said it and where, for people; empty: beside the robot."""
    episode_id: str = ""
    """Of which episode; empty: whichever runs."""


def leave(run: Path, verdict: Verdict) -> None:
    """Replaces a word that control has not taken yet. Raises OSError."""
    _leave(run, VERDICT, json.dumps(asdict(verdict)))


def begin_episode(run: Path) -> None:
    """The episode begins that waits for a person. Raises OSError."""
    _leave(run, BEGIN, "")


def save_moment(run: Path, name: str) -> None:
    """Control saves what it kept from before this moment. Raises OSError."""
    _leave(run, MOMENT, name)


def read(text: str) -> Verdict | None:
    """None for what is no verdict."""
    text = text.strip()
    try:
        if not text.startswith("{"):
            return Verdict(Word(text))
        values = json.loads(text)
        return Verdict(Word(values["word"]), str(values.get("by", "")), str(values.get("episode_id", "")))
    except (ValueError, KeyError, TypeError):
        return None


def _leave(run: Path, word: str, content: str) -> None:
    run.mkdir(parents=True, exist_ok=True)
    replace(run / word, content.encode())
