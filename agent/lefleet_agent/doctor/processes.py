"""What memory each of the agent's processes takes."""

import json
from collections.abc import Iterator
from pathlib import Path

from lefleet_agent import memory
from lefleet_agent.doctor.finding import Finding, Findings, good, unknown, warning

PART = "memory of the agent's processes"
MB = 10**6
MOST_OF_LIMIT = 0.9
NAMES = {"lefleet-policy": "policy", "lefleet-render": "renderer"}
HINT = "ask where they run: in their container as `docker exec lefleet-control lefleet-agent doctor`, and as their user"


def memory_of(run: Path) -> Findings:
    """`run`: the folder with control.json and courier.json."""
    taken, hidden = taken_bytes(run)
    if not taken:
        seen = f"{', '.join(hidden)} cannot be looked into" if hidden else "neither control nor courier is seen here"
        yield unknown(PART, seen, HINT)
        return
    yield judge(taken, hidden, control_limit_bytes(run))


def judge(taken: dict[str, int], hidden: list[str], limit_bytes: int | None) -> Finding:
    """`limit_bytes`: what control's container may take; its processes are all but the courier."""
    controls = sum(size for name, size in taken.items() if name != "courier")
    told = ", ".join(f"{name} {size / MB:.0f} MB" for name, size in taken.items())
    told += f"; together {sum(taken.values()) / MB:.0f} MB"
    if hidden:
        told += f"; {', '.join(hidden)} cannot be looked into"
    if limit_bytes is None:
        return good(PART, told)
    told += f"; control may take {limit_bytes / MB:.0f} MB"
    if controls > MOST_OF_LIMIT * limit_bytes:
        return warning(PART, told, "a smaller policy, or a higher agent_control_memory: at the limit the kernel ends "
                       "the policy's process first, and control loads it anew")  # fmt: skip
    return good(PART, told)


def taken_bytes(run: Path) -> tuple[dict[str, int], list[str]]:
    """By process, control and its children first; and those that may not be looked into."""
    taken: dict[str, int] = {}
    hidden: list[str] = []
    for name, pid in _agents(run):
        try:
            taken[name] = taken.get(name, 0) + memory.pss_bytes(pid)
        except PermissionError:
            hidden.append(name)
        except OSError:  # it ended meanwhile
            continue
    return taken, hidden


def control_limit_bytes(run: Path) -> int | None:
    pid = _pid(run / "control.json", "control_pid", "run")
    return None if pid is None else memory.limit_bytes(pid)


def _agents(run: Path) -> Iterator[tuple[str, int]]:
    control = _pid(run / "control.json", "control_pid", "run")
    if control is not None:
        yield "control", control
        recorder = _number(run / "control.json", "recorder_pid")
        for child in memory.children(control):
            yield "recorder" if child.pid == recorder else NAMES.get(child.name, "helpers"), child.pid
    courier = _pid(run / "courier.json", "courier_pid", "courier")
    if courier is not None:
        yield "courier", courier


def _pid(path: Path, key: str, word: str) -> int | None:
    """The process that the file names, if it is here and is that command: after a restart, or from another container,
    the number may be anybody's."""
    pid = _number(path, key)
    found = None if pid is None else memory.process(pid)
    return pid if found and word in found.words else None


def _number(path: Path, key: str) -> int | None:
    try:
        return int(json.loads(path.read_text())[key])
    except (OSError, ValueError, KeyError, TypeError):
        return None
