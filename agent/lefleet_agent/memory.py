"""How much memory processes take and how much there is, as the kernel tells it in /proc and in the control group.

PSS (proportional set size) divides what processes share by how many share it, so it can be added up; see proc(5).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")
FIRST_TO_GO = 500


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    name: str
    """What the kernel calls it, 15 characters at most; see `be_called`."""
    words: tuple[str, ...]
    """Its command line."""


def be_called(name: str) -> None:
    """Let `ps`, the kernel's log and the doctor tell this process from others of Python: 15 characters count."""
    (PROC / "self" / "comm").write_text(name)


def go_first() -> None:
    """Let the kernel end this process before others of the agent when memory runs out: raising the score needs no
    privilege. It stays as it is where it is higher already, or where /proc may not be written."""
    path = PROC / "self" / "oom_score_adj"
    with contextlib.suppress(OSError):
        if int(path.read_text()) < FIRST_TO_GO:
            path.write_text(f"{FIRST_TO_GO}\n")


def process(pid: int) -> Process | None:
    """None when there is none."""
    folder = PROC / str(pid)
    try:
        words = folder.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0")
        return Process(pid, folder.joinpath("comm").read_text().strip(), tuple(words))
    except OSError:
        return None


def children(pid: int) -> Iterator[Process]:
    """Those that this process started and that still run."""
    for folder in PROC.glob("[0-9]*"):
        found = process(int(folder.name)) if _parent(folder) == pid else None
        if found is not None:
            yield found


def _parent(folder: Path) -> int | None:
    try:
        return int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it ended meanwhile
        return None


def pss_bytes(pid: int) -> int:
    """Its share of the memory, now, without what is swapped out. Raises OSError: it is gone, or somebody else's."""
    return _kilobytes(PROC / str(pid) / "smaps_rollup", "Pss")


def peak_rss_bytes(pid: int) -> int:
    """The most memory that it had at once, shared pages in full. Raises OSError when it is gone."""
    return _kilobytes(PROC / str(pid) / "status", "VmHWM")


def total_bytes() -> int:
    return _kilobytes(PROC / "meminfo", "MemTotal")


def available_bytes(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """What this process and others of its control group may still take without swapping."""
    free = _kilobytes(proc / "meminfo", "MemAvailable")
    group = _limited(proc / "self", groups)
    return free if group is None else max(0, min(free, _limit(group) - _used_bytes(group)))


def limit_bytes(pid: int, proc: Path = PROC, groups: Path = GROUPS) -> int | None:
    """The limit of the control group that `pid` is in, such as a container's; None without one (or with version 1)."""
    group = _limited(proc / str(pid), groups)
    return None if group is None else _limit(group)


def _limited(process: Path, groups: Path) -> Path | None:
    """The nearest group of version 2 around the process that has a limit."""
    try:
        lines = (process / "cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), None)
    if own is None:
        return None
    folder = groups / own
    while folder.is_relative_to(groups):
        with contextlib.suppress(OSError):
            if (folder / "memory.max").read_text().strip() != "max":
                return folder
        folder = folder.parent
    return None


def _limit(group: Path) -> int:
    return int((group / "memory.max").read_text())


def _used_bytes(group: Path) -> int:
    """Without the pages of files that the kernel can drop."""
    statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int((group / "memory.current").read_text()) - int(statistics.get("inactive_file", 0))


def _kilobytes(path: Path, name: str) -> int:
    """A line `name:   123 kB`, in bytes. Raises OSError."""
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{path} has no line {name}")
