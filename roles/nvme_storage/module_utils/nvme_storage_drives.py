"""What a drive holds, and what may be done with it. Decisions alone: nothing here touches a machine."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The name of the partition and the label of its file system. Until the file system is complete the partition is called
# UNFINISHED, and nothing is mounted from it: what has that name may be formatted, what is called NAME never.
NAME = "lefleet"
UNFINISHED = "lefleet-new"

# What has to be done with a drive.
KEEP, FINISH, FORMAT, PARTITION, ERASE, FOLDER = "keep", "finish", "format", "partition", "erase", "folder"
# What else it may be: ours but unreadable, made by others, data without any signature.
DAMAGED, FOREIGN, UNKNOWN = "damaged", "foreign", "unknown"


class RefusalError(Exception):
    """Nothing may be done; the message says what was found and what would help."""


@dataclass
class Signature:
    """What wipefs found in one place."""

    type: str
    label: str
    uuid: str

    def __str__(self) -> str:
        label, uuid = self.label and f", label {self.label!r}", self.uuid and f", UUID {self.uuid}"
        return f"{self.type}{label}{uuid}"


@dataclass
class Partition:
    number: int
    node: str
    link: str
    name: str
    bytes: int
    # Whether the kernel and udev know it as the table has it.
    ready: bool
    signatures: list[Signature]
    mounts: list[dict[str, Any]] = field(default_factory=list)

    def is_file_system_of_ours(self) -> bool:
        return [(it.type, it.label) for it in self.signatures] == [("ext4", NAME)]

    def __str__(self) -> str:
        what = "; ".join(str(it) for it in self.signatures) or "no signature"
        return f"partition {self.number}{self.name and f' {self.name!r}'} ({size(self.bytes)}): {what}"


@dataclass
class Drive:
    link: str
    node: str
    serial: str
    bytes: int
    # Whether the host runs from it.
    root: bool
    # Who uses it now, in words.
    users: list[str]
    table: str
    signatures: list[Signature]
    partitions: list[Partition]
    # Whether it has nothing but what an interrupted `sfdisk` of ours leaves.
    torn: bool = False
    # Whether it was looked at, and every place looked at was zero.
    zero: bool = False

    def holds(self) -> list[str]:
        """What is on it, one line for each thing."""
        lines = [f"partition table {self.table}"] if self.table else []
        lines += [str(it) for it in self.signatures if not (self.table and it.type in ("gpt", "PMBR", "dos"))]
        lines += [str(it) for it in self.partitions]
        if not lines:
            lines = ["nothing"] if self.zero else ["no signature, but data that is not zero"]
        return lines + [f"in use: {user}" for user in self.users]

    def __str__(self) -> str:
        return f"{self.link} (serial {self.serial}, {size(self.bytes)}{', the root drive' if self.root else ''})"


def size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def state(drive: Drive) -> str:
    """KEEP, FINISH, FORMAT or PARTITION: ours, or empty; or DAMAGED, FOREIGN, UNKNOWN."""
    ours = [part for part in drive.partitions if drive.table == "gpt" and part.name == NAME]
    if ours:
        return KEEP if len(ours) == 1 and ours[0].is_file_system_of_ours() else DAMAGED
    if drive.table == "gpt" and [part.name for part in drive.partitions] == [UNFINISHED]:
        part = drive.partitions[0]
        if part.signatures:
            return FINISH if part.is_file_system_of_ours() else FOREIGN
        return FORMAT
    if drive.torn and all(it.type in ("gpt", "PMBR") for it in drive.signatures):
        return PARTITION
    if drive.table or drive.signatures or drive.partitions:
        return FOREIGN
    return PARTITION if drive.zero else UNKNOWN


def choose(drives: list[Drive], wanted: str, on_root: bool) -> Drive:
    """The drive to use: the one named, the only one, or of several the only one that is ours already."""
    if wanted:
        found = [it for it in drives if Path(wanted).name in (Path(it.link).name, it.serial)]
        hint = f"nvme_storage_id={wanted} names {len(found) or 'no'} of the NVMe drives"
    elif not drives:
        found = []
        hint = (
            "there is no NVMe drive (no /dev/disk/by-id/nvme-*): fit one, or do without role nvme_storage on this host"
        )
    elif all(drive.root for drive in drives):
        found = drives[:1] if on_root else []
        hint = "the host has no NVMe drive but the one it runs from, and nvme_storage_on_root=false:"
    else:
        free = [it for it in drives if not it.root]
        found = free if len(free) == 1 else [it for it in free if state(it) in (KEEP, FINISH, FORMAT)]
        hint = f"{len(free)} NVMe drives fit: set nvme_storage_id to the serial of one of them"
    if len(found) != 1:
        there = "".join(f"\n  {drive}: {'; '.join(drive.holds())}" for drive in drives)
        raise RefusalError(hint + there)
    return found[0]


def decide(drive: Drive, erase_serial: str, min_bytes: int, on_root: bool) -> str:
    """What has to be done with the drive."""
    holds = "".join(f"\n  {line}" for line in drive.holds())
    if drive.root:
        if not on_root:
            raise RefusalError(f"{drive} is the one the host runs from, and nvme_storage_on_root=false")
        return FOLDER
    if drive.bytes < min_bytes:
        raise RefusalError(f"{drive} is smaller than nvme_storage_min_gb={min_bytes / 1e9:g}")
    now = state(drive)
    if now == DAMAGED:
        raise RefusalError(
            f"{drive} has a partition named {NAME!r}, as drives with this fleet's data have, but not the one "
            f"readable ext4 file system labelled {NAME!r} that belongs there:{holds}\nNothing is done to it, whatever "
            f"nvme_storage_erase_serial says. Repair it (`e2fsck`), or give its data up: `wipefs --all {drive.link}`"
        )
    if now != KEEP and drive.users:
        raise RefusalError(
            f"{drive} would have to be written to, but it is in use:{holds}\n"
            "End that first: a drive in use is never written to, whatever nvme_storage_erase_serial says"
        )
    if now not in (FOREIGN, UNKNOWN):
        return now
    if erase_serial != drive.serial:
        other = f" (nvme_storage_erase_serial={erase_serial} is another drive)" if erase_serial else ""
        raise RefusalError(
            f"{drive} holds what LeFleet did not make:{holds}\n"
            f"Nothing is done to it{other}. To have ALL of it erased, set for this host alone\n"
            f"  nvme_storage_erase_serial: {json.dumps(drive.serial)}"
        )
    return ERASE
