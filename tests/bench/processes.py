"""Worker processes and what a tree of processes has cost."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


class BenchError(Exception):
    """A benchmark cannot go on: the message says which part, what it said and what to do."""


class Unavailable(Exception):  # noqa: N818 - what it says about a figure
    """Something this figure needs is not here: the message names it and how to get it."""


def run_worker(script: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
    """Run `tests/bench/<script>` as a process of its own; its last line of output is its JSON answer."""
    command = [sys.executable, str(Path(__file__).with_name(script)), json.dumps(arguments)]
    with tempfile.TemporaryFile("w+") as log:
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=log, text=True, timeout=timeout_s, check=False, env=quiet()
            )
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{script} {arguments}: no answer within {timeout_s:.0f} s\n{tail(log)}") from error
        if done.returncode != 0:
            raise BenchError(f"{script} {arguments}: ended with {done.returncode}\n{tail(log)}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def worker_main(work: Callable[..., dict[str, Any]]) -> None:
    """The other end of `run_worker`."""
    print(json.dumps(work(**json.loads(sys.argv[1]))), flush=True)


def quiet() -> dict[str, str]:
    """The environment of a worker: no telemetry, no downloads, no progress bars of libraries."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "SVT_LOG": "1"}


def tail(log: Any, lines: int = 25) -> str:
    log.seek(0)
    return "\n".join(log.read().splitlines()[-lines:])


def cpu_s(pid: int) -> float:
    """Processor seconds of a process, its living descendants and the dead ones that were waited for."""
    root = psutil.Process(pid)
    return sum(map(_own_and_reaped_s, (root, *root.children(recursive=True))))


def _own_and_reaped_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
        own_s = time.clock_gettime(_cpu_clock(process.pid))
    except (psutil.NoSuchProcess, OSError):
        return 0.0  # it ended between being listed and being asked; its parent has its time when it has waited for it
    return own_s + times.children_user + times.children_system


def _cpu_clock(pid: int) -> int:
    """What clock_getcpuclockid(3) returns on Linux: all threads, in nanoseconds (/proc counts in 10 ms)."""
    return (~pid << 3) | 2


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its living descendants; what they share counts for each."""
    root = psutil.Process(pid)
    return sum(map(_resident_bytes, (root, *root.children(recursive=True))))


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


@dataclass(slots=True)
class Growth:
    """How far the resident memory of a tree of processes was above its beginning, at most."""

    begin_bytes: int
    peak_bytes: int

    @property
    def megabytes(self) -> float:
        return (self.peak_bytes - self.begin_bytes) / 1e6


@contextmanager
def memory_growth(pid: int, every_s: float = 0.05) -> Iterator[Growth]:
    """Looks at the tree so often while the block lasts."""
    begin_bytes = resident_bytes(pid)
    growth, ended = Growth(begin_bytes, begin_bytes), threading.Event()

    def look() -> None:
        while not ended.wait(every_s):
            growth.peak_bytes = max(growth.peak_bytes, resident_bytes(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield growth
    finally:
        ended.set()
        thread.join()
        growth.peak_bytes = max(growth.peak_bytes, resident_bytes(pid))


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float, every_s: float = 0.02) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
