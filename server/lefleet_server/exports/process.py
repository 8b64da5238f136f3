"""Makes one export: `python -m lefleet_server.exports.process FORMAT FILE OUTPUT` prints JSON: {}, {"error"} of a wrong
file, or {"failed"}, which says nothing about the file.

A process of its own, confined before it opens the file (lefleet_server.episodes.limits): it may write, as much as an
export may have, and reach no network and start no program. Only the library of the format asked for is loaded.
"""

import errno
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from lefleet_server.episodes.attributes import FileError
from lefleet_server.episodes.limits import DISK_FULL, confine, is_disk_full, told
from lefleet_server.exports import Format, most_bytes
from lefleet_server.exports.recorded import Recorded

_WRITERS = {Format.RRD: "lefleet_server.exports.rerun_file", Format.MCAP: "lefleet_server.exports.mcap_file"}


def _main(kind: str, path: Path, output: Path) -> int:
    writer: Any = importlib.import_module(_WRITERS[Format(kind)])
    most = 0
    try:
        most = most_bytes(path.stat().st_size)
        confine(path, most)
        writer.write(Recorded.read(path), output)
        found = {}
    except FileError as error:
        found = {"error": str(error)}
    except OSError as error:
        if is_disk_full(error):
            return DISK_FULL
        found = told(error, "made")
        if error.errno == errno.EFBIG:
            found = {"error": f"File too large: of a file like this at most {most} bytes are made; take its HDF5 file"}
    except Exception as error:  # noqa: BLE001 - top of a process that reads untrusted files: libraries raise anything
        if os.strerror(errno.ENOSPC) in str(error):  # Rerun's errors have words and no number
            return DISK_FULL
        found = told(error, "made")
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
