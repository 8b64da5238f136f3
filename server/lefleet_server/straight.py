"""An upload's body straight from the socket into blocks of memory, which are written and hashed where they lie.

On uvicorn's usual way each byte is copied five times between socket and file (buffers of the transport, the parser, the
cycle, the message and the caller), holding the interpreter's lock. Here the transport fills a block itself while the
one before is written. The parser gets the connection back for the next request.
"""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import httptools
from starlette.requests import ClientDisconnect
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "lefleet.straight"
_MOST_KEPT_BYTES = 32 << 20

type Blocks = AsyncGenerator[memoryview]


def offer(http: HttpToolsProtocol) -> None:
    """Lets whoever answers this request ask for `blocks_of` it. Call it when the head is complete."""
    lengths = [value for name, value in http.headers if name == b"content-length"]
    if len(lengths) == 1 and lengths[0].isdigit() and not http.expect_100_continue:
        scope: Any = http.scope
        scope["extensions"] = {EXTENSION: partial(_take, http, scope, int(lengths[0]))}


def blocks_of(scope: Scope, block_bytes: int, idle_s: float) -> Blocks | None:
    """The body in blocks of `block_bytes`, the last one shorter; each counts until the next is asked for.

    Raises ClientDisconnect, after what arrived, when the client goes or sends nothing for `idle_s`. None where that
    cannot be: read `request.stream()` then.
    """
    take = scope.get("extensions", {}).get(EXTENSION)
    blocks: Blocks | None = take(block_bytes, idle_s) if take else None
    return blocks


def _take(http: Any, scope: Scope, length: int, block_bytes: int, idle_s: float) -> Blocks | None:
    cycle = http.cycle
    # The newest request of the connection is another one, or the body has been read already.
    if cycle.scope is not scope or not cycle.more_body or cycle.disconnected or len(cycle.body) > block_bytes:
        return None
    return _Straight(http, cycle, length, block_bytes, idle_s).blocks()


class _Pool:
    """Blocks to be used again: new memory costs a page fault for every 4 KiB."""

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def get(self, size: int) -> bytearray:
        for at, block in enumerate(self._kept):
            if len(block) == size:
                return self._kept.pop(at)
        return bytearray(size)

    def give_back(self, block: bytearray) -> None:
        if sum(map(len, self._kept)) + len(block) <= _MOST_KEPT_BYTES:
            self._kept.append(block)


_pool = _Pool()


class _Straight(asyncio.BufferedProtocol):
    """The connection's protocol while a body comes."""

    def __init__(self, http: Any, cycle: Any, length: int, block_bytes: int, idle_s: float) -> None:
        self._http = http
        self._cycle = cycle
        self._left = length - len(cycle.body)
        self._idle_s = idle_s
        self._size = block_bytes
        self._block = _pool.get(block_bytes)
        self._filled = len(cycle.body)
        self._block[: self._filled] = cycle.body
        cycle.body = bytearray()
        self._gone = False
        self._discards = False
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._ready = asyncio.Event()

    async def blocks(self) -> Blocks:
        if self._left == 0 or self._filled == self._size:
            self._ready.set()
        self._hand_over(self)
        try:
            while True:
                await self._wait()
                block, filled, last = self._block, self._filled, self._left == 0 or self._gone
                self._block, self._filled = _pool.get(self._size), 0
                if not last:
                    self._ready.clear()
                    self._http.flow.resume_reading()
                try:
                    if filled:
                        yield memoryview(block)[:filled]
                finally:
                    _pool.give_back(block)
                if last:
                    break
            if self._left:
                raise ClientDisconnect
        finally:
            self._end()

    async def _wait(self) -> None:
        """Until the block is full, or nothing more comes."""
        while not self._ready.is_set():
            left_s = self._heard_s + self._idle_s - self._loop.time()
            if left_s <= 0:
                self._gone = True  # one that stops coming has vanished: what arrived is kept
                return
            try:
                await asyncio.wait_for(self._ready.wait(), left_s)
            except TimeoutError:
                continue

    def _hand_over(self, protocol: asyncio.BaseProtocol) -> None:
        """The transport looks at its protocol when it begins to read."""
        self._http.flow.pause_reading()
        self._http.transport.set_protocol(protocol)
        if not self._ready.is_set() or protocol is not self:
            self._http.flow.resume_reading()

    def _end(self) -> None:
        """Gives the connection back, now or when the rest, which nobody wants, has come."""
        if self._http.transport.is_closing():
            return
        if self._left:
            self._discards, self._filled = True, 0
            self._http.flow.resume_reading()
        else:
            self._give_back()

    def _give_back(self) -> None:
        _pool.give_back(self._block)
        http, cycle = self._http, self._cycle
        http.parser = httptools.HttpRequestParser(http)  # the one before still waits for the body
        http.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        self._hand_over(http)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._block)[self._filled : self._filled + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        self._left -= nbytes
        self._heard_s = self._loop.time()
        if self._discards:
            if self._left == 0:
                self._give_back()
            return
        self._filled += nbytes
        if self._left == 0 or self._filled == self._size:
            self._http.flow.pause_reading()
            self._ready.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._ready.set()
        self._http.connection_lost(exc)

    def eof_received(self) -> None:
        self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()
