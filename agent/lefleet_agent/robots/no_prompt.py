"""Code of others that may ask a question, where nobody is there to answer."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lefleet_agent.robot import RobotError


class _Nobody(io.TextIOBase):
    """A standard input that refuses to be read: `input()` would wait forever otherwise."""

    def __init__(self, who: str) -> None:
        self._who = who

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        raise RobotError(
            f"{self._who} asked a question, and an agent has nobody to answer it; calibrate and set it up by hand "
            "first, with LeRobot's own commands"
        )

    def read(self, size: int | None = -1, /) -> str:
        return self.readline()


@contextmanager
def no_prompt(who: str) -> Iterator[None]:
    """Inside, `input()` raises RobotError instead of waiting."""
    before, sys.stdin = sys.stdin, _Nobody(who)
    try:
        yield
    finally:
        sys.stdin = before
