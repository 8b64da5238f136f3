"""Asks a program of ours about a stranger's file: in a process that may crash, hang or want too much."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lefleet_server
from lefleet_server.episodes.limits import DISK_FULL
from lefleet_server.problems import NoSpace

_CRASHES = {
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSYS,
    signal.SIGXFSZ,
}
"""Ends that the file caused. Any other (a shutdown, no memory left on the host) says nothing about the file; SIGBUS
neither: it is how a mapped file tells that its disk cannot be read."""
_OWN_CODE = str(Path(lefleet_server.__file__).parents[1])
_START = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
"""`-I` keeps the environment's folders out of the process; the code is this process' own, not what is installed."""
_ALONE = {"OPENBLAS_NUM_THREADS": "1"}
"""No threads that nobody uses, and that a fork would lose."""
MOST_OUTPUT_BYTES = 256 << 20


class FileFaultError(Exception):
    """The file made the program crash, hang or want too much; the message says which."""


class TooSlowError(FileFaultError):
    """It took longer than it may: the file is crafted, or only long."""


class LateError(TooSlowError):
    """By the clock on the wall: the machine may only have been busy."""


class EndedEarlyError(Exception):
    """The program ended for a reason that is not the file's; ask again."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """Each file is read by a program started for it: nothing is kept between two."""

    module: str

    async def ask(self, *arguments: str | Path, timeout_s: float, most_bytes: int = MOST_OUTPUT_BYTES) -> bytes:
        """What the program prints. Raises FileFaultError or EndedEarlyError; NoSpace where it writes."""
        return await ask(self.module, *arguments, timeout_s=timeout_s, most_bytes=most_bytes)


async def ask(module: str, *arguments: str | Path, timeout_s: float, most_bytes: int = MOST_OUTPUT_BYTES) -> bytes:
    """What `python -m module arguments` prints. Raises FileFaultError or EndedEarlyError; NoSpace where it writes."""
    process = await start(module, *map(str, arguments))
    try:
        return await asyncio.wait_for(_output(process, most_bytes), timeout_s)
    except TimeoutError as error:
        raise LateError(f"could not be read within {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def judge(module: str, *arguments: str | Path, timeout_s: float) -> dict[str, Any]:
    """What the program prints as JSON; `error` in it is what is wrong with the file, as also when it crashed on it.

    Raises LateError or EndedEarlyError for what says nothing about the file, NoSpace where the program writes.
    """
    try:
        return await said(module, *arguments, timeout_s=timeout_s)
    except LateError:
        raise
    except FileFaultError as error:
        return {"error": f"file: {error}"}


async def said(module: str, *arguments: str | Path, timeout_s: float) -> dict[str, Any]:
    """What the program prints as JSON. Raises as `ask` does; EndedEarlyError also for `failed` in it."""
    found: dict[str, Any] = json.loads(await ask(module, *arguments, timeout_s=timeout_s))
    if "failed" in found:
        raise EndedEarlyError(found["failed"])
    return found


async def start(module: str, *arguments: str, pass_fds: Sequence[int] = ()) -> asyncio.subprocess.Process:
    """`python -m module arguments`, with a pipe as its standard output."""
    # It gives way to everything else: on one machine robots may run beside it.
    command = ("nice", "-n", "10", sys.executable, "-I", "-c", _START, _OWN_CODE, module, *arguments)
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # The server's own environment may hold the database's password; this process reads files of strangers.
        env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ} | _ALONE,
        pass_fds=pass_fds,
    )


def require_bounded(output_bytes: int, most_bytes: int) -> None:
    if output_bytes > most_bytes:
        raise FileFaultError(f"holds more than {most_bytes >> 20} MiB as text")


def require_good_end(status: int) -> None:
    """By a program's exit status, negative for a signal."""
    if -status == signal.SIGXCPU:
        raise TooSlowError("takes more of a processor's time than it may")
    if -status in _CRASHES:
        raise FileFaultError(f"makes the library that reads it fail ({signal.Signals(-status).name})")
    if status == DISK_FULL:
        raise NoSpace("the server's disk is full; free some of it, then try again", headers={"Retry-After": "30"})
    if status:
        raise EndedEarlyError(f"the reading of the file ended early ({status})")


async def _output(process: asyncio.subprocess.Process, most_bytes: int) -> bytes:
    assert process.stdout is not None  # noqa: S101 - asked for above
    output = bytearray()
    while piece := await process.stdout.read(1 << 18):
        output += piece
        require_bounded(len(output), most_bytes)
    require_good_end(await process.wait())
    return bytes(output)
