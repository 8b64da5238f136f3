"""What Docker's data folder holds, where it has to go, and what an interrupted move left: decisions alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

# What the configured folder needs to become the wanted one.
NONE, ADOPT, MOVE = "none", "adopt", "move"
MISSING, EMPTY, BARE, DATA, OTHER = "missing", "empty", "bare", "data", "other"
# Room that stays free on the target, in bytes.
RESERVE = 512 << 20


class RefusalError(Exception):
    """Nothing may be done; the message says what was found and what would help."""


@dataclass
class Root:
    """A folder of Docker's data, or one in its place."""

    path: str
    # MISSING, EMPTY, OTHER (files that are not Docker's), BARE (Docker's, without data), DATA.
    kind: str = MISSING
    # Whether something is mounted on it.
    mount: bool = False
    # The line that a move leaves in the folder and in its copy: a number of its own, and the folder it began with.
    mark: str = ""
    images: list[str] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    drivers: list[str] = field(default_factory=list)

    def moved_from(self) -> str:
        """The folder that the move began with which left its mark here."""
        return self.mark.partition(" ")[2]

    def __str__(self) -> str:
        return (
            f"{self.path} ({len(self.images)} images, {len(self.containers)} containers, {len(self.volumes)} volumes)"
            if self.kind in (BARE, DATA)
            else f"{self.path} ({self.kind})"
        )


def part_path(target: str) -> str:
    """Where a copy is made."""
    return f"{target}.part"


def unused_path(target: str) -> str:
    """Where a folder without data that is in the way is put."""
    return f"{target}.unused"


def kept_path(root: Root) -> str:
    """Where the data lies once its copy is in use: what is mounted cannot be renamed."""
    return f"{root.path}/.moved" if root.mount else f"{root.path}.moved"


def is_copy(copy: Root, old: Root) -> bool:
    """Whether a folder was made by a move that began with `old` as it is now, and not with one of the same name."""
    return bool(old.mark) and copy.mark == old.mark and old.moved_from() == old.path != copy.path


def decide(old: Root, new: Root, part: Root, unused: Root) -> str:
    """What has to be done so that Docker's data, now in `old`, lies in `new`."""
    if old.path == new.path:
        return NONE
    if PurePosixPath(new.path).is_relative_to(old.path) or PurePosixPath(old.path).is_relative_to(new.path):
        raise RefusalError(f"docker_data_root={new.path} and {old.path}, where Docker's data is, lie in one another")
    if new.kind == OTHER:
        raise RefusalError(f"docker_data_root={new.path} holds files that are not Docker's: name another folder")
    if old.kind != DATA:
        return ADOPT
    # The copy is complete, and the engine not yet told: it may have written to the old folder since.
    unswitched = is_copy(new, old)
    if new.kind == DATA and not unswitched:
        raise RefusalError(
            f"both {old} and docker_data_root={new} hold Docker's data, and cannot be joined: rename the one that "
            "is not needed, or set docker_data_root to the one that is"
        )
    if new.mount:
        raise RefusalError(
            f"docker_data_root={new.path} is a mount point, where a copy cannot be put: name a folder in it"
        )
    if set(old.drivers) & {"btrfs", "zfs", "devicemapper"}:
        raise RefusalError(
            f"{old} was made by Docker's storage driver {', '.join(old.drivers)}, whose data cannot be copied"
        )
    if part.kind not in (MISSING, EMPTY) and not is_copy(part, old):
        raise RefusalError(f"{part.path} is in the way, and is no copy of {old.path}: look at it, and remove it")
    if new.kind == BARE and not unswitched and unused.kind != MISSING:
        raise RefusalError(
            f"{new.path} is without data, but cannot be put away: {unused.path} is there already; remove it"
        )
    return MOVE


def check_room(old: Root, needed: int, free: int) -> None:
    """Raises RefusalError when a copy does not fit; `free` counts what an interrupted copy has taken already."""
    if needed + RESERVE > free:
        raise RefusalError(
            f"{old} takes {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free at docker_data_root, of which "
            f"{RESERVE / 1e6:.0f} MB must stay so: `docker system prune` frees some, or name a larger drive"
        )


def missing(old: Root, images: list[str], containers: list[str], volumes: list[str]) -> list[str]:
    """What was in the old folder and is not in the running engine."""
    lost = [f"image {it}" for it in old.images if it not in images]
    lost += [f"container {it}" for it in old.containers if it not in containers]
    return lost + [f"volume {it}" for it in old.volumes if it not in volumes]
