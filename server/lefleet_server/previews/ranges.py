"""The header Range (RFC 9110, section 14): which bytes of a file to answer with. Pure."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})[ \t]*-[ \t]*([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


class UnsatisfiableError(Exception):
    """The range begins behind the file's end: 416."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """From `start` up to and without `stop`."""

    start: int
    stop: int


def wanted(header: str | None, size: int) -> Bytes | None:
    """The one range that is asked for; None: the whole file, also for several ranges and for what is none."""
    match = _RANGE.fullmatch(header.strip(" \t")) if header is not None else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise UnsatisfiableError
    return Bytes(int(first), min(int(last) + 1 if last else size, size))


def _suffix(length: int, size: int) -> Bytes:
    if length == 0 or size == 0:
        raise UnsatisfiableError
    return Bytes(max(0, size - length), size)
