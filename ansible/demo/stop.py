"""End the demo of this copy of the repository and leave no process. The data stays."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from here import STATE, SUPERVISOR_CONFIG, read_proc, refuse, say, supervisor_pid

SUPERVISOR_S = 90  # robots, worker, server and PostgreSQL end one after the other
ORPHAN_S = 10
POSTGRES = STATE / "server" / "postgres" / "location.json"
LOG = SUPERVISOR_CONFIG.with_name("log")


def children_of_the_demo() -> list[int]:
    """Processes of the demo, also those that outlived their supervisor."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and (is_marked(pid) or is_our_postgres(pid))]


def is_marked(pid: int) -> bool:
    """supervisord gives its programs this variable and their children inherit it."""
    return b"LEFLEET_SUPERVISOR=" + os.fsencode(SUPERVISOR_CONFIG) in read_proc(pid, "environ").split(b"\0")


def is_our_postgres(pid: int) -> bool:
    """PostgreSQL is started without our environment, but stays in its data folder."""
    try:
        data_dir = json.loads(POSTGRES.read_text())["data_dir"]
        program = Path(f"/proc/{pid}/exe").readlink().name
        return program == "postgres" and Path(f"/proc/{pid}/cwd").readlink() == Path(data_dir)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def first_of_them(pids: list[int]) -> list[int]:
    """Those whose parent is none of them: they end their own children in order, as PostgreSQL must."""
    return [pid for pid in pids if parent(pid) not in pids]


def parent(pid: int) -> int:
    """0 when the process is gone."""
    # The second field is the program's name in brackets and may hold anything.
    fields = read_proc(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def send(signal_number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal_number)
        except ProcessLookupError:
            continue  # it ended by itself, which is what we want


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orphans", action="store_true", help="only what outlived a supervisor that died")
    only_orphans = parser.parse_args().orphans
    pid = supervisor_pid()
    if pid and only_orphans:
        return 0
    if pid:
        say("Stopping the robots, the server and PostgreSQL")
        send(signal.SIGTERM, [pid])
        if not wait_until(lambda: not supervisor_pid(), SUPERVISOR_S):
            return refuse(f"supervisord (process {pid}) did not end in {SUPERVISOR_S} s; see {LOG}")
    orphans = children_of_the_demo()
    if orphans:
        say(f"Ending {len(orphans)} processes that outlived their supervisor")
        send(signal.SIGTERM, first_of_them(orphans))
        if not wait_until(lambda: not children_of_the_demo(), ORPHAN_S):
            send(signal.SIGKILL, children_of_the_demo())
            wait_until(lambda: not children_of_the_demo(), ORPHAN_S)
    if not only_orphans:
        say("Stopped; `make demo` goes on with the data" if pid or orphans else "The demo was not running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
