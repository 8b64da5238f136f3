"""What the courier tells this machine about itself: `run/courier.json`.

courier_pid, wall_ns
clock_offset_s  null, or how far the server's clock is ahead of this machine's
trouble         what fails now (heartbeat, wishes, pictures, upload, receipts, credential, spool) and why
alive_until_monotonic_ns   see lefleet_agent.liveness
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from lefleet_agent.files import replace
from lefleet_agent.liveness import UNTIL, Pulse

log = structlog.get_logger()

TELL_S = 1.0
SILENT_S = 30.0


class CourierFile:
    """Written once a second; `trouble` is what the courier's threads put there."""

    def __init__(self, path: Path, pulse: Pulse, clock_offset_s: Callable[[], float | None] = lambda: None) -> None:
        self.pulse = pulse
        self.trouble: dict[str, str] = {}
        self._path = path
        self._clock_offset_s = clock_offset_s
        self._unwritable = ""

    def __call__(self) -> float:
        """Write it; returns when to write it again, seconds."""
        values = {
            "courier_pid": os.getpid(),
            "wall_ns": time.time_ns(),
            "clock_offset_s": self._clock_offset_s(),
            "trouble": dict(self.trouble),
            UNTIL: self.pulse.until_ns(SILENT_S),
        }
        try:
            self._path.parent.mkdir(exist_ok=True)
            replace(self._path, json.dumps(values).encode())
            self._unwritable = ""
        except OSError as error:
            reason = str(error.strerror)
            if reason != self._unwritable:  # once, not every second: a full disk must not end the uploads that free it
                log.error("cannot write how the courier is", path=str(self._path), reason=reason)
            self._unwritable = reason
        return TELL_S
