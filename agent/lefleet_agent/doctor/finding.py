"""One thing that was looked at."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    UNKNOWN = "unknown"
    """It could not be looked at; what it says tells why."""


@dataclass(frozen=True, slots=True)
class Finding:
    part: str
    verdict: Verdict
    what: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""


type Findings = Iterator[Finding]


def good(part: str, what: str) -> Finding:
    return Finding(part, Verdict.GOOD, what)


def warning(part: str, what: str, remedy: str) -> Finding:
    return Finding(part, Verdict.WARNING, what, remedy)


def bad(part: str, what: str, remedy: str) -> Finding:
    return Finding(part, Verdict.BAD, what, remedy)


def unknown(part: str, what: str, remedy: str = "") -> Finding:
    return Finding(part, Verdict.UNKNOWN, what, remedy)
