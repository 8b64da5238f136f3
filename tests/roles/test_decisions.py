"""What roles nvme_storage and docker may do with other people's data, decided without a machine."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROLES = Path(__file__).resolve().parents[2] / "roles"


def load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"lefleet_{Path(path).stem}", ROLES / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module


drives = load("nvme_storage/module_utils/nvme_storage_drives.py")
data = load("docker/module_utils/docker_data_root.py")

OURS = drives.Signature("ext4", "lefleet", "u-1")
XFS = drives.Signature("xfs", "films", "u-2")


def drive(serial: str = "A1", **what: Any) -> Any:
    base = {"root": False, "users": [], "table": "", "signatures": [], "partitions": [], "zero": False}
    link = f"/dev/disk/by-id/nvme-Model_{serial}"
    return drives.Drive(
        **{"link": link, "node": "/dev/nvme0n1", "serial": serial, "bytes": 500 * 10**9, **base, **what}
    )


def parted(name: str, *signatures: Any, **what: Any) -> Any:
    part = drives.Partition(1, "/dev/nvme0n1p1", "link-part1", name, 5 * 10**11, True, list(signatures))
    return drive(table="gpt", partitions=[part], **what)


@pytest.mark.parametrize(
    ("found", "action"),
    [
        (drive(zero=True), "partition"),
        (drive(torn=True), "partition"),
        (parted("lefleet-new"), "format"),
        (parted("lefleet-new", OURS), "finish"),
        (parted("lefleet", OURS), "keep"),
        (parted("lefleet", OURS, users=["/dev/nvme0n1p1 is mounted at /mnt/lefleet"]), "keep"),
        (drive(root=True, table="gpt"), "folder"),
    ],
)
def test_what_is_ours_or_empty_is_taken_as_it_is(found: Any, action: str) -> None:
    assert drives.decide(found, "", 10**11, on_root=True) == action


@pytest.mark.parametrize(
    "found",
    [
        drive(),  # no signature, but not zero
        drive(signatures=[XFS]),
        drive(signatures=[XFS], torn=True),  # made over what an interrupted run left
        drive(table="dos"),
        drive(table="gpt"),
        parted("lefleet-new", XFS),
        parted("Basic data partition"),
        parted("", OURS),  # our label alone is no proof
    ],
)
def test_what_others_made_is_erased_only_when_its_serial_is_named(found: Any) -> None:
    for serial in ("", "A2", "a1"):
        with pytest.raises(drives.RefusalError, match='nvme_storage_erase_serial: "A1"'):
            drives.decide(found, serial, 10**11, on_root=True)
    assert drives.decide(found, "A1", 10**11, on_root=True) == "erase"
    found.users = ["/dev/nvme0n1 is part of /dev/md0"]
    with pytest.raises(drives.RefusalError, match="is part of /dev/md0"):
        drives.decide(found, "A1", 10**11, on_root=True)


@pytest.mark.parametrize("found", [parted("lefleet"), parted("lefleet", XFS), parted("lefleet", OURS, XFS)])
def test_a_partition_of_ours_that_cannot_be_read_is_never_erased(found: Any) -> None:
    with pytest.raises(drives.RefusalError, match="e2fsck"):
        drives.decide(found, "A1", 10**11, on_root=True)


def test_a_drive_is_chosen_only_when_there_is_no_doubt() -> None:
    root, empty, ours = drive("R1", root=True), drive("A1", zero=True), parted("lefleet", OURS, serial="A2")
    assert drives.choose([root, empty], "", on_root=True) is empty
    assert drives.choose([root, empty, ours], "", on_root=True) is ours
    assert drives.choose([root, empty, ours], "A1", on_root=True) is empty
    assert drives.choose([root, empty], "/dev/disk/by-id/nvme-Model_A1", on_root=True) is empty
    assert drives.choose([root], "", on_root=True) is root
    for there, wanted, said in (
        ([empty, drive("A3")], "", "2 NVMe drives fit"),
        ([ours, parted("lefleet", OURS, serial="A4")], "", "2 NVMe drives fit"),
        ([empty], "A9", "names no"),
        ([], "", "there is no NVMe drive"),
    ):
        with pytest.raises(drives.RefusalError, match=said):
            drives.choose(there, wanted, on_root=True)
    with pytest.raises(drives.RefusalError, match="nvme_storage_on_root=false"):
        drives.choose([root], "", on_root=False)


OLD, NEW = "/var/lib/docker", "/mnt/lefleet/docker"
MARK = f"7f3e {OLD}"


def root(path: str, kind: str = "data", **what: Any) -> Any:
    return data.Root(path, kind, **what)


def decide(old: Any, new: Any, part: Any = None, unused: Any = None) -> str:
    there = [it or root(path, "missing") for it, path in ((part, f"{NEW}.part"), (unused, f"{NEW}.unused"))]
    decided: str = data.decide(old, new, *there)
    return decided


def test_data_is_moved_where_there_is_none() -> None:
    assert decide(root(NEW), root(NEW)) == "none"
    for kind in ("missing", "empty", "bare"):
        assert decide(root(OLD), root(NEW, kind)) == "move"
    for kind in ("missing", "empty", "bare"):
        assert decide(root(OLD, kind), root(NEW)) == "adopt"


def test_a_copy_is_taken_up_again_only_when_it_is_of_this_very_data() -> None:
    assert decide(root(OLD, mark=MARK), root(NEW, mark=MARK)) == "move"
    assert decide(root(OLD, mark=MARK), root(NEW, "missing"), root(f"{NEW}.part", "bare", mark=MARK)) == "move"
    for old_mark, new_mark in (("", ""), ("", MARK), (MARK, ""), (f"1111 {OLD}", MARK), (f"7f3e {NEW}", f"7f3e {NEW}")):
        with pytest.raises(data.RefusalError, match="cannot be joined"):
            decide(root(OLD, mark=old_mark), root(NEW, mark=new_mark))
    with pytest.raises(data.RefusalError, match="is in the way"):
        decide(root(OLD, mark=MARK), root(NEW, "missing"), root(f"{NEW}.part", "bare", mark=f"1111 {OLD}"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (root(OLD), root(NEW, "other"), "files that are not Docker's"),
        (root(OLD, "missing"), root(NEW, "other"), "files that are not Docker's"),
        (root(OLD), root(f"{OLD}/inner", "missing"), "in one another"),
        (root(OLD), root(NEW, "empty", mount=True), "is a mount point"),
        (root(OLD, drivers=["btrfs"]), root(NEW, "missing"), "btrfs"),
    ],
)
def test_a_move_that_cannot_be_made_safely_is_refused(old: Any, new: Any, said: str) -> None:
    with pytest.raises(data.RefusalError, match=said):
        decide(old, new)


def test_a_copy_needs_its_room_and_half_a_gigabyte_more() -> None:
    data.check_room(root(OLD), 10**9, 10**9 + data.RESERVE)
    with pytest.raises(data.RefusalError, match="takes 1000 MB"):
        data.check_room(root(OLD), 10**9, 10**9)


def test_what_the_engine_lacks_of_the_old_folder_is_named() -> None:
    old = root(OLD, images=["sha256:1"], containers=["c1"], volumes=["v1", "v2"])
    assert data.missing(old, ["sha256:1", "sha256:2"], ["c1"], ["v1"]) == ["volume v2"]
