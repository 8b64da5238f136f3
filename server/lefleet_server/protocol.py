"""HTTP/1.1 as uvicorn speaks it, but no request's head may be endless: neither in bytes nor in time.

uvicorn gives a new connection all the time it wants to send its first line, and keeps whatever it sends.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lefleet_server import straight
from lefleet_server.problems import MEDIA_TYPE, TYPE_BASE, document

MAX_HEAD_BYTES = 32 << 10
"""Request line and headers together."""


class BoundedHead(HttpToolsProtocol):
    """Answers 431 to a head that is too long, and 408 to one that does not come within `head_timeout_s`."""

    head_timeout_s = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._clock: asyncio.TimerHandle | None = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._clock is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._clock is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request's head has more than {MAX_HEAD_BYTES} bytes"
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._clock is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_clock()
        straight.offer(self)
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._clock = self.loop.call_later(self.head_timeout_s, self._too_slow)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request's head did not come within {self.head_timeout_s:g} s")

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._stop_clock()
        if self.transport.is_closing():
            return
        kind = status.phrase.lower().replace(" ", "-")
        body = json.dumps(document(status, TYPE_BASE + kind, detail)).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {MEDIA_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def bounded(head_timeout_s: float) -> Any:
    """The protocol class for uvicorn, which makes its own instances."""
    return type("BoundedHead", (BoundedHead,), {"head_timeout_s": head_timeout_s})
