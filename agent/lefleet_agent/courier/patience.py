"""Ends requests that hang: an HTTP client limits each wait for a byte, not their sum, and a server may drip."""

import socket
import threading
from typing import Any

SEND_MAX_S = 120.0
"""Longest time to send one request: what arrived of a piece counts, so nothing is lost by cutting a slow one."""


class Patience:
    """A context around each request of one connection, which `trace` follows. Any thread may hang up."""

    def __init__(self, answer_max_s: float, send_max_s: float = SEND_MAX_S) -> None:
        """`answer_max_s`: from the last byte sent to the last one received."""
        self._answer_max_s = answer_max_s
        self._send_max_s = send_max_s
        self._socket: socket.socket | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> None:
        self._limit(self._send_max_s)

    def __exit__(self, *_: object) -> None:
        self._limit(None)

    def hang_up(self) -> None:
        """Whoever waits for a byte on this connection gets an error instead."""
        if self._socket is not None:
            try:
                # The plain socket's method: that of TLS would pull the rug from under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                self._socket = None  # closed already

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """What happens on the connection: https://www.python-httpx.org/advanced/extensions/#trace"""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
        elif event.endswith(".receive_response_headers.started"):
            self._limit(self._answer_max_s)

    def _limit(self, seconds: float | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self.hang_up) if seconds else None
        if self._timer:
            self._timer.daemon = True
            self._timer.start()
