"""Analyses one file: `python -m lefleet_server.analysis.process FILE` prints findings as JSON: those of `analyse`,
{"error"} of a wrong file, or {"failed"}, which says nothing about the file.

A process of its own, confined before it opens the file (lefleet_server.episodes.limits).
"""

import json
import sys
from pathlib import Path
from typing import Any

from lefleet_server.analysis import pictures, signals
from lefleet_server.episodes import reader
from lefleet_server.episodes.attributes import FileError
from lefleet_server.episodes.limits import confine, told


def analyse(path: Path) -> dict[str, Any]:
    """{"statistics", "flags"}; raises FileError, or whatever a library raises for a file that is none."""
    found = reader.recording(path)
    signals.require_whole(found)
    measured = signals.statistics(found)
    for name, camera in found.cameras.items():
        measured["cameras"][name] = pictures.go_over(path, name, camera, found.monotonic_ns)
    return {"statistics": measured, "flags": signals.flags(measured, found.fps)}


def _main(path: Path) -> int:
    confine(path)
    try:
        found = analyse(path)
    except FileError as error:
        found = {"error": str(error)}
    except Exception as error:  # noqa: BLE001 - top of a process that reads untrusted files: libraries raise anything
        found = told(error, "read")
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
