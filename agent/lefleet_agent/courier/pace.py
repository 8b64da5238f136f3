"""How long to wait, and how much to send at once. Monotonic time only: the wall clock may be decades off."""

import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

RETRY_AFTER_MAX_S = 300.0
"""A server may ask for a pause, but not for a robot that nobody hears of."""
PIECE_MIN_BYTES = 1 << 16
PIECE_FIRST_BYTES = 1 << 19
PIECE_S = 5.0
"""What one request of an upload should take: a link that is cut every minute still makes headway."""


def backoff_s(failures: int, first_s: float, longest_s: float, chance: Callable[[], float] = random.random) -> float:
    """Full jitter: thirty robots that lost the server together must not come back together.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, with a floor so that none hammers.
    """
    return max(first_s / 10, chance() * min(longest_s, first_s * 2.0 ** min(failures, 16)))


def retry_after_s(value: str | None, date: str | None, now_wall_s: float) -> float | None:
    """The pause that an answer's `Retry-After` asks for, from 0 to RETRY_AFTER_MAX_S; None when it asks for none.

    A date in it is compared with the `Date` of the same answer: both are the server's, so our own clock says nothing.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), RETRY_AFTER_MAX_S)
    until_s = http_date_s(text)
    if until_s is None:
        return None
    sent_s = http_date_s(date)
    return min(max(until_s - (now_wall_s if sent_s is None else sent_s), 0.0), RETRY_AFTER_MAX_S)


def http_date_s(value: str | None) -> float | None:
    """An HTTP date as seconds since 1970; None when it is missing or not one."""
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, OverflowError):
        return None


class Rate:
    """A token bucket of one piece: `delay_s(size)` takes the tokens and says when they will have come in."""

    def __init__(self, bytes_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._free_at_s = clock()

    def delay_s(self, size_bytes: int) -> float:
        """How long to wait before sending so much."""
        now_s = self._clock()
        begin_s = max(now_s, self._free_at_s)
        self._free_at_s = begin_s + size_bytes / self._bytes_per_s
        return begin_s - now_s


class Pieces:
    """The size of an upload's requests: what the link lately carried in PIECE_S, and half of it after a failure.

    With a limit no piece is larger than a second of it: the pauses lie between requests, where no connection waits.
    """

    def __init__(self, largest_bytes: int, limit_bytes_per_s: float | None = None) -> None:
        limit = largest_bytes if limit_bytes_per_s is None else int(limit_bytes_per_s)
        self._largest = max(min(largest_bytes, limit), PIECE_MIN_BYTES)
        self._size = min(self._largest, PIECE_FIRST_BYTES)

    def next(self, left_bytes: int) -> int:
        return min(self._size, left_bytes)

    def took(self, size_bytes: int, seconds: float) -> None:
        if size_bytes >= self._size:  # the rest of an episode is too short to tell
            self._resize(min(size_bytes * PIECE_S / max(seconds, 1e-3), 2 * self._size))

    def failed(self) -> None:
        self._resize(self._size / 2)

    def _resize(self, size_bytes: float) -> None:
        self._size = int(min(max(size_bytes, PIECE_MIN_BYTES), self._largest))
