"""Makes one camera's files: `python -m lefleet_server.previews.process FILE CAMERA VIDEO FIRST LAST` prints JSON.

A process of its own, confined before it opens the file (lefleet_server.episodes.limits): it may write, as much as a
preview may have, and reach no network and start no program.
"""

import json
import sys
from pathlib import Path

from lefleet_server.episodes import reader
from lefleet_server.episodes.attributes import FileError
from lefleet_server.episodes.limits import DISK_FULL, confine, is_disk_full, told
from lefleet_server.previews import KINDS, MOST_BYTES, encoder


def _main(path: Path, camera: str, outputs: list[str]) -> int:
    confine(path, MOST_BYTES)
    try:
        found = encoder.encode(path, reader.recording(path), camera, dict(zip(KINDS, map(Path, outputs), strict=True)))
    except FileError as error:
        found = {"error": str(error)}
    except Exception as error:  # noqa: BLE001 - top of a process that reads untrusted files: libraries raise anything
        if is_disk_full(error):
            return DISK_FULL
        found = told(error, "made")
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
