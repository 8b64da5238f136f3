"""Before anything is changed: can this machine do it? Each problem is one sentence that says what to do.

Runs on whatever Python is there, so that a Python that is too old is told so instead of failing.
"""

import argparse
import re
import shutil
import socket
import sys
from pathlib import Path

from here import PORT_FILE, REPO, STATE, VENV, refuse, remembered_port, supervisor_pid

PYTHON = (3, 12), (3, 14)
PORTS = 3  # the server, and the /metrics of two robots
ENVIRONMENT_GB = 12.0  # 6 GB installed, as much again while it is fetched
DATA_GB = 5.0  # the demo's server leaves 3 free, and each robot may keep half a one


def python_problem(version: "tuple[int, int]") -> "str | None":
    if PYTHON[0] <= version < PYTHON[1]:
        return None
    return (
        f"Python {version[0]}.{version[1]} cannot run this; LeRobot needs 3.12 or 3.13. Install one "
        "(Debian 13: apt-get install python3 python3-venv; elsewhere: pyenv install 3.12) and call make again"
    )


def path_problem(path: Path) -> "str | None":
    if re.fullmatch(r"[\w./@+-]+", str(path)):
        return None
    return f"{path}: make cannot use this path; move the repository to one of letters, digits and ./_@+-"


def disk_problem(folder: Path, need_gb: float) -> "str | None":
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    if free_gb >= need_gb:
        return None
    return (
        f"{folder} has {free_gb:.1f} GB free and {need_gb:g} GB are needed; free some space"
        f"{' or choose another place for the environment: make VENV=/path/to/folder ...' if folder == VENV else ''}"
    )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Linux: a socket in TIME_WAIT does not count, one that listens does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_problem(port: int) -> "str | None":
    if not 1024 <= port <= 65536 - PORTS:
        return f"PORT={port} is out of range; choose one from 1024 to {65536 - PORTS}"
    if supervisor_pid() and port == remembered_port():
        return None  # our own running demo holds them
    used = [candidate for candidate in range(port, port + PORTS) if not is_free(candidate)]
    if not used:
        return None
    better = next(
        (start for start in range(port + 10, 65536 - PORTS, 10) if all(map(is_free, range(start, start + PORTS)))),
        None,
    )
    listed = ", ".join(map(str, used))
    return (
        f"port {listed} is in use by another program, and the demo needs {port} to {port + PORTS - 1}; "
        f"stop that program or use other ports: make demo PORT={better}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="also check that the demo can use this port and the next two")
    parser.add_argument("--environment-gb", type=float, default=ENVIRONMENT_GB, help="disk for a new environment")
    parser.add_argument("--data-gb", type=float, default=DATA_GB, help="disk for everything else")
    options = parser.parse_args()
    fresh = not (VENV / "bin" / "python").exists()
    problems = [
        python_problem(sys.version_info[:2]),
        path_problem(REPO),
        disk_problem(VENV, options.environment_gb) if fresh else None,
        disk_problem(STATE, options.data_gb),
        port_problem(options.port) if options.port is not None else None,
    ]
    found = [problem for problem in problems if problem]
    if found:
        return refuse(*found)
    if options.port is not None:
        STATE.mkdir(mode=0o755, exist_ok=True)
        PORT_FILE.write_text(f"{options.port}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
