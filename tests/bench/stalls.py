"""A disk that stops answering now and then: what a worn flash drive, a trim or a full write cache does."""

import os
import time
from collections.abc import Callable
from typing import Any

EVERY_S, FOR_S = 2.0, 0.3
CALLS = ("pwrite", "pwritev", "fsync", "rename", "posix_fallocate")


def stall_disk() -> None:
    """In the recorder process (`RecorderHandle(config, setup=stall_disk)`): every call for the disk that comes within
    the last 300 ms of each 2 s takes until their end. The calls are the recorder's own, and release the interpreter
    lock while they wait, as the real ones do."""
    for name in CALLS:
        setattr(os, name, _stalled(getattr(os, name)))


def _stalled(call: Callable[..., Any]) -> Callable[..., Any]:
    def stalled(*arguments: Any) -> Any:
        left_s = EVERY_S - time.monotonic() % EVERY_S
        if left_s < FOR_S:
            time.sleep(left_s)
        return call(*arguments)

    return stalled
