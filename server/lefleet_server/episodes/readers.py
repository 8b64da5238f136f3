"""Asks a program of ours about strangers' files without starting Python for each: a child is forked for every file."""

import asyncio
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from lefleet_server.episodes import bounded
from lefleet_server.episodes.bounded import MOST_OUTPUT_BYTES, EndedEarlyError, FileFaultError, LateError
from lefleet_server.episodes.forking import END, MARK, READY

_FORKING = "lefleet_server.episodes.forking"
_START_S = 60.0


@dataclass(slots=True)
class _Parent:
    """The process that forks."""

    process: asyncio.subprocess.Process
    control: socket.socket

    def begin(self, arguments: list[str], answer: socket.socket) -> None:
        """Raises OSError when it is no more."""
        socket.send_fds(self.control, [json.dumps(arguments).encode()], [answer.fileno()])

    async def end(self) -> None:
        """And its children's."""
        self.control.close()
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class Readers:
    """`module.main(arguments)` in a process that reads one file. Building it starts nothing; `close` ends all.

    The process that forks is replaced after a file that made its child crash: nobody learns by many tries where in
    memory the library lies.
    """

    def __init__(self, module: str, at_once: int | None = None) -> None:
        self._module = module
        self._slots = asyncio.Semaphore(at_once or os.cpu_count() or 1)
        self._starting = asyncio.Lock()
        self._parent: _Parent | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def ask(self, *arguments: str | Path, timeout_s: float, most_bytes: int = MOST_OUTPUT_BYTES) -> bytes:
        """What the program prints. Raises FileFaultError or EndedEarlyError."""
        async with self._slots:
            mine, its = socket.socketpair()
            with its:
                parent = await self._begin([str(each) for each in arguments], its)
            mine.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=mine, limit=1 << 18)
            try:
                output = await asyncio.wait_for(_all_of(reader, most_bytes), timeout_s)
            except TimeoutError as error:
                raise LateError(f"could not be read within {timeout_s:g} s") from error
            finally:
                writer.close()  # which ends the child, should it still run
            return self._answer(parent, output)

    async def close(self) -> None:
        if self._parent is not None:
            self._forget(self._parent)
        await asyncio.gather(*self._ending)

    def _answer(self, parent: _Parent, output: bytes) -> bytes:
        mark, status = END.unpack(output[-END.size :]) if len(output) >= END.size else (b"", 0)
        if mark != MARK:
            self._forget(parent)
            raise EndedEarlyError("the reading of the file ended early")
        try:
            bounded.require_good_end(status)
        except FileFaultError:
            self._forget(parent)
            raise
        return output[: -END.size]

    async def _begin(self, arguments: list[str], answer: socket.socket) -> _Parent:
        parent = await self._started()
        try:
            parent.begin(arguments, answer)
        except OSError:
            self._forget(parent)  # it was killed meanwhile; a second one that is too says something
            parent = await self._started()
            try:
                parent.begin(arguments, answer)
            except OSError as error:
                raise EndedEarlyError(f"no process to read the file ({error})") from error
        return parent

    async def _started(self) -> _Parent:
        async with self._starting:
            if self._parent is None:
                self._parent = await self._start()
            return self._parent

    async def _start(self) -> _Parent:
        control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            process = await bounded.start(_FORKING, self._module, str(its.fileno()), pass_fds=(its.fileno(),))
        parent = _Parent(process, control)
        assert process.stdout is not None  # noqa: S101 - asked for in bounded.start
        try:
            said = await asyncio.wait_for(process.stdout.readline(), _START_S)
        except TimeoutError:
            said = b""
        if said != READY:
            await parent.end()
            raise EndedEarlyError("the process that reads files did not start")
        return parent

    def _forget(self, parent: _Parent) -> None:
        """The next file gets another one; children of this one are killed, and asked for again by their callers."""
        if self._parent is parent:
            self._parent = None
            task = asyncio.create_task(parent.end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


async def _all_of(reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    output = bytearray()
    while piece := await reader.read(1 << 18):
        output += piece
        bounded.require_bounded(len(output), most_bytes)
    return bytes(output)
