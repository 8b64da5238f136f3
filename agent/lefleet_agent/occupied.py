"""Who has this robot's arm: one lock in the state folder. Only one of control, `record`, `replay`, `fit` and the
doctor's look at the arm holds it, and the kernel takes it back with its process, however that ended."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lefleet_agent import liveness

LOCK = "arm.lock"
CONTROL = "run"
_SAYS_MORE = (CONTROL, "record")
"""Commands whose recorder writes control.json."""


class OccupiedError(Exception):
    """Another process has the arm; the message says which, and how to end it."""


@contextlib.contextmanager
def arm_held(run: Path, command: str, why: str) -> Iterator[None]:
    """Nobody else has the arm meanwhile. `run`: the folder with control.json. `command`: who holds it, for people.
    `why` ends the sentence of a refusal: what would go wrong. Raises OccupiedError."""
    fd = _open(run, why)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OccupiedError(_refusal(run, why)) from None
        _sign(fd, command)
        yield
    finally:
        os.close(fd)  # with the lock: no child of this process inherits the descriptor


def holder(run: Path) -> str | None:
    """The command that has the arm now, None when nobody has it."""
    try:
        fd = os.open(run / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return str(_signature(run).get("command", "another command"))
    finally:
        os.close(fd)
    return None


def _open(run: Path, why: str) -> int:
    path = run / LOCK
    try:
        run.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OccupiedError(
            f"{path}: {error.strerror}: nobody can tell whether another command has the arm, and {why}; look at "
            "state_dir's disk"
        ) from error


def _sign(fd: int, command: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name on it
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"command": command, "pid": os.getpid()}).encode(), 0)


def _signature(run: Path) -> dict[str, Any]:
    try:
        values = json.loads((run / LOCK).read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _refusal(run: Path, why: str) -> str:
    signed = _signature(run)
    command, pid = str(signed.get("command", "")), signed.get("pid", "unknown")
    found = liveness.health(run, "control", time.monotonic_ns())
    if command in _SAYS_MORE and found.state and not found.alive and found.state != "stopped":
        return f"control hangs but still holds what it has: {why}. End its process {pid} first: {found.detail}"
    if command == CONTROL:
        state = f" ({found.state})" if found.alive else ""
        return (
            f"control is running{state}: {why}. `lefleet-agent drain --wait 60` lets it finish its episode; "
            "then stop it: `systemctl stop lefleet-control`"
        )
    if command:
        return f"`lefleet-agent {command}` (process {pid}) has the arm: {why}. Let it end, or end it with Ctrl-C"
    return f"another command of lefleet-agent has the arm: {why}. Let it end first"
