#!/usr/bin/python
"""Looks at Docker's data: where it is, where it has to go, what an interrupted move left. Changes nothing."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.docker_data_root import (
    BARE,
    DATA,
    EMPTY,
    MISSING,
    MOVE,
    OTHER,
    RefusalError,
    Root,
    check_room,
    decide,
    is_copy,
    kept_path,
    missing,
    part_path,
    unused_path,
)

DOCUMENTATION = """
module: docker_data
short_description: Looks at Docker's data folder
description: Read-only; works in check mode.
options:
  target: {type: path, required: true, description: Where the data has to be.}
  mount: {type: str, default: auto, description: Mount point that it needs, `auto` to look, or empty.}
  now: {type: bool, default: false, description: Whether it is about to be moved - mount and room are checked then.}
  origin: {type: str, default: "", description: Only say what of this folder is not in images, containers, volumes.}
  images: {type: list, elements: str, default: [], description: Ids of the images that the engine has.}
  containers: {type: list, elements: str, default: [], description: Ids of its containers.}
  volumes: {type: list, elements: str, default: [], description: Names of its volumes.}
"""

CONFIG = Path("/etc/docker/daemon.json")
DEFAULT = "/var/lib/docker"
MARK = ".lefleet-move"
DOCKERS = {"buildkit", "containers", "image", "network", "overlay2", "plugins", "volumes"}
DROP_IN = Path("/etc/systemd/system/docker.service.d/lefleet.conf")
FLAGS = re.compile(r"^[^#\n]*(?:\s|\"|=)(?:--data-root|--graph|-g)[ =]", re.MULTILINE)


def names(folder: Path) -> list[str]:
    return sorted(it.name for it in folder.iterdir()) if folder.is_dir() else []


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def mount_points() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4].encode().decode("unicode_escape") for line in lines]


def root(path: str, mounted: list[str]) -> Root:
    """What a folder holds. Containers that end with the engine (`--rm`), and their volumes, do not count."""
    folder = Path(path)
    found = Root(path, mount=path in mounted)
    if not folder.is_dir():
        return found
    there = set(names(folder)) - {"lost+found", MARK, ".moved"}
    found.mark = (folder / MARK).read_text().strip() if (folder / MARK).exists() else ""
    found.kind = EMPTY if not there else BARE if there & DOCKERS else OTHER
    if found.kind == OTHER and found.mark:
        found.kind = BARE
    found.drivers = names(folder / "image")
    for driver in found.drivers:
        found.images += [f"sha256:{it}" for it in names(folder / "image" / driver / "imagedb" / "content" / "sha256")]
    passing: set[str] = set()
    for name in names(folder / "containers"):
        if read_json(folder / "containers" / name / "hostconfig.json").get("AutoRemove"):
            mounts = read_json(folder / "containers" / name / "config.v2.json").get("MountPoints") or {}
            passing |= {
                str(it.get("Name")) for it in mounts.values() if re.fullmatch("[0-9a-f]{64}", it.get("Name") or "")
            }
        else:
            found.containers.append(name)
    found.volumes = [it for it in names(folder / "volumes") if (folder / "volumes" / it).is_dir() and it not in passing]
    swarm = (folder / "swarm" / "docker-state.json").exists()
    if swarm or found.images or found.containers or found.volumes:
        found.kind = DATA
    return found


def taken(path: str) -> int:
    """Bytes a folder takes on its disk; hard links count once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, folders, files in os.walk(path):
        for name in [*folders, *files]:
            told = Path(folder, name).lstat()
            if (told.st_dev, told.st_ino) not in seen:
                seen.add((told.st_dev, told.st_ino))
                total += told.st_blocks * 512
    return total


def free(path: str) -> int:
    there = next(it for it in [Path(path), *Path(path).parents] if it.exists())
    told = os.statvfs(there)
    return told.f_bavail * told.f_frsize


def configured() -> str:
    """The folder that Docker has or would start with."""
    if CONFIG.exists() and not CONFIG.read_text().strip():
        return DEFAULT
    try:
        told = json.loads(CONFIG.read_text()) if CONFIG.exists() else {}
    except ValueError as error:
        raise RefusalError(f"{CONFIG} is not valid JSON ({error}): mend it or remove it") from error
    flagged = [Path("/etc/default/docker"), *Path("/etc/systemd/system/docker.service.d").glob("*.conf")]
    flagged += [Path("/etc/systemd/system/docker.service")]
    for path in flagged:
        if path.exists() and FLAGS.search(path.read_text()):
            raise RefusalError(f"{path} gives Docker its data folder as a flag, which {CONFIG} must: remove it there")
    return str(told.get("data-root") or told.get("graph") or DEFAULT)


def mount_for(target: str, mounted: list[str]) -> str:
    """The mount point that a folder lies in, by /etc/fstab or mounted now; empty for the root file system.

    A mount on the folder itself does not count, unless /etc/fstab has it: a running dockerd makes one.
    """
    fstab = Path("/etc/fstab")
    listed = [line.split() for line in fstab.read_text().splitlines()] if fstab.exists() else []
    candidates = [words[1] for words in listed if len(words) > 2 and not words[0].startswith("#")]
    candidates += [it for it in mounted if it != target] + asserted()
    around = [it for it in candidates if it not in ("/", "none") and Path(target).is_relative_to(it)]
    return max(around, key=len, default="")


def asserted() -> list[str]:
    """The mount point that the engine has been told to wait for by an earlier run."""
    return re.findall(r"^AssertPathIsMountPoint=(.+)$", DROP_IN.read_text(), re.MULTILINE) if DROP_IN.exists() else []


def busy(path: str, mounted: list[str]) -> list[str]:
    """What still runs on a data folder."""
    found = [f"{it} is mounted" for it in mounted if it != path and Path(it).is_relative_to(path)]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        program = Path(os.fsdecode(words[0])).name
        if program == "dockerd" or (program.startswith("containerd-shim") and b"moby" in words):
            found.append(f"process {process.name} ({program}) runs")
    return found


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    mounted = mount_points()
    target = asked["target"]
    old, new = root(configured(), mounted), root(target, mounted)
    part, unused = root(part_path(target), mounted), root(unused_path(target), mounted)
    action = decide(old, new, part, unused)
    mount = mount_for(target, mounted) if asked["mount"] == "auto" else asked["mount"]
    if asked["now"]:
        if mount and mount not in mounted:
            raise RefusalError(
                f"{mount} must be mounted for docker_data_root={target}, and is not: mount it, or see why not"
            )
        if action == MOVE:
            left = part if part.kind != MISSING else new
            check_room(old, taken(old.path), free(target) + (taken(left.path) if is_copy(left, old) else 0))
    origin = root(new.moved_from(), mounted) if old.path == new.path and new.mark else Root("")
    kept = kept_path(origin) if origin.path not in ("", new.path) else ""
    return {
        "problem": "",
        "action": action,
        "mount": mount,
        "old": {**asdict(old), "busy": busy(old.path, mounted), "moving": old.moved_from() == old.path},
        "new": {**asdict(new), "copied": is_copy(new, old)},
        "part": asdict(part),
        "about": str(old),
        # The folder that the data in use was copied from, until it is put away.
        "origin": asdict(origin) if kept and is_copy(new, origin) else {},
        # Where it is put, and whether it is there.
        "kept": kept,
        "kept_there": bool(kept) and root(kept, mounted).mark == new.mark,
    }


def compare(asked: dict[str, Any]) -> list[str]:
    lists = [asked["images"], asked["containers"], asked["volumes"]]
    return missing(root(asked["origin"], mount_points()), *lists)


def main() -> None:
    lists = {name: {"type": "list", "elements": "str", "default": []} for name in ("images", "containers", "volumes")}
    module = AnsibleModule(
        argument_spec={
            "target": {"type": "path", "required": True},
            "mount": {"type": "str", "default": "auto"},
            "now": {"type": "bool", "default": False},
            "origin": {"type": "str", "default": ""},
            **lists,
        },
        supports_check_mode=True,
    )
    try:
        if module.params["origin"]:
            module.exit_json(changed=False, missing=compare(module.params))
        module.exit_json(changed=False, **answer(module.params))
    except RefusalError as refusal:
        module.exit_json(changed=False, problem=str(refusal), action="", mount="", origin={}, kept="", kept_there=False)
    except OSError as error:
        module.fail_json(msg=f"Docker's data cannot be read: {error}; nothing is done")


if __name__ == "__main__":
    main()
