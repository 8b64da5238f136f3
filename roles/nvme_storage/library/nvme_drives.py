#!/usr/bin/python
"""Looks at a host's NVMe drives and says what has to be done with which, or why nothing may be. Changes nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.nvme_storage_drives import (
    FOLDER,
    NAME,
    UNFINISHED,
    Drive,
    Partition,
    RefusalError,
    Signature,
    choose,
    decide,
)

DOCUMENTATION = """
module: nvme_drives
short_description: Finds the NVMe drive for the fleet and says what it holds
description: Read-only; works in check mode.
options:
  id: {type: str, default: "", description: By-id name or serial of the drive; empty when there is one only.}
  erase_serial: {type: str, default: "", description: Serial of the drive whose contents may be erased.}
  min_bytes: {type: int, default: 0, description: Size that the drive has at least.}
  mount: {type: path, required: true, description: Where its file system is to be mounted.}
  on_root: {type: bool, default: true, description: Whether a folder will do when the host runs from its only drive.}
"""

BY_ID = Path("/dev/disk/by-id")
# Links that name a drive by a number rather than by its model and serial: second choice.
ODD = ("nvme-eui.", "nvme-nvme.", "nvme-uuid.")
MIB = 1 << 20
# Places at which a drive without any signature is read: both ends and evenly between.
WINDOWS = 64
GPT_ENTRIES_BYTES = 128 * 128


def output(*words: str) -> str:
    """What a program says; nothing when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    return done.stdout if done.returncode == 0 else ""


def sys_path(device: int) -> Path:
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()


def disks_below(path: Path) -> set[Path]:
    """The whole disks under a block device of /sys: through partitions, LVM, RAID and encryption."""
    if (path / "partition").exists():
        return {path.parent}
    below = [slave.resolve() for slave in (path / "slaves").glob("*")]
    return {disk for slave in below for disk in disks_below(slave)} if below else {path}


def mounts() -> list[dict[str, Any]]:
    """What is mounted, with the number of its device, also where the file system has one of its own (btrfs)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        end = words.index("-")
        major, minor = (int(it) for it in words[2].split(":"))
        device, source = os.makedev(major, minor), Path(words[end + 2])
        if major == 0 and source.is_block_device():
            device = source.stat().st_rdev
        target = words[4].encode().decode("unicode_escape")
        options = sorted({*words[5].split(","), *words[end + 3].split(",")})
        found.append({"device": device, "target": target, "options": options})
    return found


def users(node: str, mounted: list[dict[str, Any]]) -> list[str]:
    """Who uses a block device: what can be seen, and the kernel's own answer to a request for it alone."""
    device = Path(node).stat().st_rdev
    swaps = [Path(line.split()[0]) for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    found = [f"{node} is mounted at {it['target']}" for it in mounted if it["device"] == device]
    found += [f"{node} is swap" for it in swaps if it.is_block_device() and it.stat().st_rdev == device]
    found += [f"{node} is part of /dev/{it.name}" for it in sorted((sys_path(device) / "holders").glob("*"))]
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENXIO):
            raise
        if error.errno == errno.ENXIO:  # the node is left over
            return []
        found = found or [f"{node} or a part of it is held by the kernel"]
    return found


def signatures(node: str) -> list[Signature]:
    text = output("wipefs", "--json", node)
    found = json.loads(text)["signatures"] if text.strip() else []
    return [Signature(*it) for it in sorted({(it["type"], it["label"] or "", it["uuid"] or "") for it in found})]


def is_zero(node: str, start: int, end: int) -> bool:
    """Whether a drive is zero at both ends of a stretch and in places between."""
    places = [start + (end - start - MIB) * index // (WINDOWS - 1) for index in range(WINDOWS)]
    with Path(node).open("rb", buffering=0) as file:
        return not any(file.seek(place) < 0 or any(file.read(MIB)) for place in places)


def is_torn(node: str, count: int, sector: int) -> bool:
    """Whether a drive has nothing but our partition table, incomplete: sfdisk writes the one at the end first."""
    with Path(node).open("rb", buffering=0) as file:
        file.seek(count - sector - GPT_ENTRIES_BYTES)
        end = file.read(GPT_ENTRIES_BYTES + sector)
    entries, header = end[:GPT_ENTRIES_BYTES], end[GPT_ENTRIES_BYTES:]
    name = entries[56:128].decode("utf-16-le", "replace").rstrip("\0")
    ours = header.startswith(b"EFI PART") and name == UNFINISHED and not any(entries[128:])
    return ours and is_zero(node, MIB, count - MIB)


def partition(entry: dict[str, Any], link: str, sector: int, mounted: list[dict[str, Any]]) -> Partition:
    """A partition as `sfdisk --json` lists it, with what is known of it besides."""
    node = entry["node"]
    number = int(node[len(node.rstrip("0123456789")) :])
    part = Partition(number, node, f"{link}-part{number}", entry.get("name", ""), entry["size"] * sector, False, [])
    if Path(node).is_block_device():
        device = Path(node).stat().st_rdev
        try:
            known = [int((sys_path(device) / name).read_text()) * 512 for name in ("start", "size")]
        except FileNotFoundError:  # the node is left over: the kernel numbers partitions anew
            return part
        linked = Path(part.link).exists() and Path(part.link).stat().st_rdev == device
        part.ready = linked and known == [entry["start"] * sector, entry["size"] * sector]
        part.signatures = signatures(node)
        part.mounts = [it for it in mounted if it["device"] == device]
    return part


def look(link: Path, mounted: list[dict[str, Any]], roots: set[Path]) -> Drive:
    """Everything there is to know about a drive."""
    node = str(link.resolve())
    path = sys_path(link.stat().st_rdev)
    told = path / "device" / "serial"
    serial = told.read_text().strip() if told.exists() else link.name.rsplit("_", 1)[-1]
    count = int((path / "size").read_text()) * 512
    table = json.loads(output("sfdisk", "--json", node) or "{}").get("partitiontable", {})
    parts = [partition(it, str(link), table.get("sectorsize", 512), mounted) for it in table.get("partitions", [])]
    drive = Drive(str(link), node, serial, count, path in roots, [], table.get("label", ""), signatures(node), parts)
    # The kernel may know partitions that the table does not hold any more.
    known = [f"/dev/{it.name}" for it in sorted(path.glob(f"{path.name}*"))]
    nodes = [it for it in dict.fromkeys([*(part.node for part in parts), *known, node]) if Path(it).is_block_device()]
    for it in nodes if not drive.root else []:
        drive.users += users(it, mounted) if it != node or not drive.users else []
    if not drive.table:
        drive.torn = is_torn(node, count, int((path / "queue" / "logical_block_size").read_text()))
        drive.zero = not drive.signatures and is_zero(node, 0, count)
    return drive


def find(mounted: list[dict[str, Any]]) -> list[Drive]:
    """The whole NVMe drives, each once."""
    roots: set[Path] = set()
    for it in mounted:
        if it["target"] == "/" and os.major(it["device"]):
            roots |= disks_below(sys_path(it["device"]))
    links: dict[int, Path] = {}
    whole = [link for link in BY_ID.glob("nvme-*") if not re.search(r"-part\d+$", link.name)]
    for link in sorted(whole, key=lambda it: (it.name.startswith(ODD), len(it.name), it.name)):
        if link.is_block_device():
            links.setdefault(link.stat().st_rdev, link)
    return [look(link, mounted, roots) for link in sorted(links.values())]


def check_mount_point(mount: Path, drive: Drive, mounted: list[dict[str, Any]]) -> None:
    """Raises RefusalError when the drive cannot be mounted there, or would hide files."""
    there = [it for it in mounted if it["target"] == str(mount)]
    ours = [it for part in drive.partitions if part.name == NAME for it in part.mounts]
    if there and there[-1] not in ours:
        raise RefusalError(f"something else than {drive} is mounted at nvme_storage_mount={mount}: unmount it")
    hidden = [] if there else [str(Path(folder, name)) for folder, _, names in os.walk(mount) for name in names]
    if hidden:
        raise RefusalError(
            f"nvme_storage_mount={mount} holds {len(hidden)} files that the drive would hide "
            f"({', '.join(hidden[:5])}): move them away"
        )


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    mounted = mounts()
    drive = choose(find(mounted), asked["id"], asked["on_root"])
    action = decide(drive, asked["erase_serial"], asked["min_bytes"], asked["on_root"])
    if action != FOLDER:
        check_mount_point(Path(asked["mount"]), drive, mounted)
    ours = [it for it in drive.partitions if it.name in (NAME, UNFINISHED)] if action != FOLDER else []
    uuids = [it.signatures[0].uuid for it in ours if it.is_file_system_of_ours()]
    return {
        "problem": "",
        "action": action,
        "drive": asdict(drive),
        "about": str(drive),
        "holds": drive.holds(),
        "partition": asdict(ours[0]) if ours else {},
        "uuid": uuids[0] if uuids else "",
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "id": {"type": "str", "default": ""},
            "erase_serial": {"type": "str", "default": ""},
            "min_bytes": {"type": "int", "default": 0},
            "mount": {"type": "path", "required": True},
            "on_root": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    for program in ("sfdisk", "wipefs"):
        module.get_bin_path(program, required=True)
    try:
        module.exit_json(changed=False, **answer(module.params))
    except RefusalError as refusal:
        module.exit_json(changed=False, problem=str(refusal), action="", partition={}, uuid="")
    except OSError as error:
        module.fail_json(msg=f"a drive cannot be read: {error}; nothing is done")


if __name__ == "__main__":
    main()
