"""Why a command cannot do what it was asked, by what its caller does next: the exit status says it to scripts.

Failure         one sentence for a person: thing, value, remedy
├── Refused     the server understood and said no (or is not a LeFleet server)
└── Unreachable no answer: worth another try
"""

from enum import IntEnum


class Status(IntEnum):
    """Exit statuses; 130: stopped by Ctrl-C."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTLY = 3
    UNREACHABLE = 4


class Failure(Exception):  # noqa: N818 - what people call it
    def __init__(self, message: str, status: Status = Status.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Refused(Failure):
    """`code`: the HTTP status; `retry_after_s`: None when trying again is useless."""

    def __init__(self, message: str, code: int, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s


class Unreachable(Failure):
    def __init__(self, message: str) -> None:
        super().__init__(message, Status.UNREACHABLE)


def usage(message: str) -> Failure:
    """Wrong use: nothing was asked of the server."""
    return Failure(message, Status.USAGE)
