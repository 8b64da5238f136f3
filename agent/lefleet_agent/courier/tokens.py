"""Which of its two tokens a robot shows: the newest, and the one before where the server does not know the newest."""

import threading

import structlog

log = structlog.get_logger()


class Tokens:
    """Shared by every thread that talks to the server."""

    def __init__(self, current: str, previous: str = "") -> None:
        """`previous`: empty when there is none."""
        self._lock = threading.Lock()
        self._current, self._previous = current, previous
        self._forgotten = False

    def __contains__(self, token: object) -> bool:
        with self._lock:
            return token in (self._current, self._previous)

    @property
    def current(self) -> str:
        with self._lock:
            return self._current

    @property
    def forgotten(self) -> bool:
        """Whether the server took only the one before: it was restored from a backup, say."""
        with self._lock:
            return self._forgotten

    def adopt(self, current: str, previous: str) -> None:
        """From now on this pair."""
        with self._lock:
            self._current, self._previous, self._forgotten = current, previous, False

    def other(self, refused: str) -> str:
        """What to show instead of one that was refused; empty when there is nothing else.

        Of two threads one may still have shown the old one while the other used the new one for the first time.
        """
        with self._lock:
            return self._current if refused != self._current else self._previous

    def accepted(self, token: str, refused: str) -> None:
        """The server took this one after it had refused the other.

        That may have been long ago: it keeps some questions, and the pair may be another one by now.
        """
        with self._lock:
            if (refused, token) != (self._current, self._previous):
                return
            self._current, self._previous = self._previous, self._current
            self._forgotten = True
        log.warning("the server knows only the credential before this one: was it restored? It will be renewed")
