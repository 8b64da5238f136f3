"""Where the recorder process begins. Control imports this: OpenCV and HDF5 load in the recorder only."""

import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from lefleet_agent.recording.events import EventCounter
from lefleet_agent.recording.ring import Ring

if TYPE_CHECKING:
    from lefleet_agent.recording.handle import RecorderConfig


def child_main(
    config: "RecorderConfig",
    setup: Callable[[], None] | None,
    ring: Ring,
    stop: EventCounter,
    ready: EventCounter,
) -> None:
    from lefleet_agent.recording.recorder import run

    os.nice(5)  # control comes first where cores are few; the ring holds a second of frames
    sys.stdout, sys.stderr = PatientStream(1), PatientStream(2)
    if setup:
        setup()
    run(config, ring, stop, ready)


class PatientStream(io.TextIOBase):
    """A log whose disk is full or whose reader is gone must not end a recording: lines that cannot be written are
    counted, and the count is told once it can be."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._line = ""
        self._lost = 0

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            lost = f"({self._lost} lines of this log could not be written)\n" if self._lost else ""
            try:
                os.write(self._fd, f"{lost}{line}\n".encode())
                self._lost = 0
            except OSError:
                self._lost += 1
        return len(text)

    def isatty(self) -> bool:
        return os.isatty(self._fd)
