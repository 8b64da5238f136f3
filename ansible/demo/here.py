"""Where this copy of the repository keeps its environment and its demo. Standard library only: no environment yet."""

import os
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
OWN_VENV = REPO / ".venv"
VENV = Path(os.environ.get("VENV") or OWN_VENV).absolute()
STATE = REPO / ".demo"
SUPERVISOR_CONFIG = STATE / "supervisor" / "supervisord.conf"
SUPERVISOR_PID = STATE / "supervisor" / "supervisord.pid"
PORT_FILE = STATE / "port"
DEFAULT_PORT = 8000


def remembered_port() -> int:
    """The port that the last `make demo` of this copy used; 8000 before the first."""
    return int(PORT_FILE.read_text()) if PORT_FILE.is_file() else DEFAULT_PORT


def supervisor_pid() -> int:
    """The process id of this copy's supervisor, or 0 when none runs."""
    if not SUPERVISOR_PID.is_file():
        return 0
    pid = int(SUPERVISOR_PID.read_text() or 0)
    # A process id alone proves nothing after a reboot: the command line names our configuration.
    return pid if os.fsencode(SUPERVISOR_CONFIG) in read_proc(pid, "cmdline") else 0


def read_proc(pid: int, name: str) -> bytes:
    """`/proc/<pid>/<name>`; empty for a process that is gone or belongs to someone else."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def say(text: str) -> None:
    """One line of progress, at once."""
    bold = "\033[1m", "\033[0m"
    print(text if not sys.stdout.isatty() else text.join(bold), flush=True)


def refuse(*sentences: str) -> "int":
    """Print what is wrong and what to do; the exit status to end with."""
    for sentence in sentences:
        print(f"LeFleet: {sentence}", file=sys.stderr, flush=True)
    return 1
