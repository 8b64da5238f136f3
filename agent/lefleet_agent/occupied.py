"""Whether control has the arm, the memory and the processor: what a trial beside it must know before it begins."""

import json
import time
from pathlib import Path

from lefleet_agent import liveness, memory


class OccupiedError(Exception):
    """Control runs; the message says how to stop it."""


def ensure_free(run: Path, why: str) -> None:
    """`run`: the folder with control.json. `why` ends the sentence: what would go wrong. Raises OccupiedError."""
    found = liveness.health(run, "control", time.monotonic_ns())
    if found.alive:
        raise OccupiedError(
            f"control is running ({found.state}): {why}. `lefleet-agent drain --wait 60` lets it finish its episode; "
            "then stop it: `systemctl stop lefleet-control`"
        )
    if found.state != "stopped" and _still_there(run / "control.json"):
        raise OccupiedError(f"control hangs but still holds what it has: {why}. End its process first: {found.detail}")


def _still_there(path: Path) -> bool:
    try:
        pid = int(json.loads(path.read_text())["control_pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    process = memory.process(pid)
    return process is not None and "run" in process.words
