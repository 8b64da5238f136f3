"""Which machine this is."""

import os
import platform
from pathlib import Path
from typing import Any

from lefleet_agent import memory

MODEL = Path("/proc/device-tree/model")


def describe() -> dict[str, Any]:
    return {
        "model": model(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory.total_bytes(),
        "kernel": platform.release(),
    }


def model(path: Path = MODEL) -> str | None:
    """As the device tree says it; None where there is none, as on a PC. The text ends with a NUL."""
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None
