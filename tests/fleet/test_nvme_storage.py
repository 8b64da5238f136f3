"""Role nvme_storage on simulated drives: what others made is never erased, and a killed run is continued."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

SERIAL, SECOND = "NVA1", "NVA2"
DRIVE = f"/dev/disk/by-id/nvme-Simulated_NVMe_{SERIAL}"
MOUNT = "/mnt/lefleet"
TABLE = "printf 'label: gpt\\nname=%s, type=linux\\n' | sfdisk --quiet --wipe always --wipe-partitions always {drive}"
VARIABLES = {
    "nvme_storage_id": SERIAL,
    "nvme_storage_min_gb": 0.1,
    "nvme_storage_folders": [{"path": "models/cache", "owner": "1234", "group": "1234", "mode": "0750"}],
}


@pytest.fixture(scope="module")
def host(fleet: Any) -> Any:
    return fleet.host("nvme", drives=[(400, SERIAL), (200, SECOND)])


@pytest.fixture(autouse=True)
def empty(host: Any) -> Iterator[None]:
    """Every test begins with empty drives, and nothing mounted or in /etc/fstab."""
    yield
    host.run(
        f"umount -q {MOUNT}; : > /etc/fstab; systemctl daemon-reload; rm -rf {MOUNT} /usr/local/sbin/mkfs.ext4; "
        "for drive in /dev/nvme?n1; do wipefs --quiet --all $drive; blkdiscard $drive; partx --delete $drive; done; "
        "simulated-settle",
        check=False,
    )


@pytest.fixture
def apply(play: Callable[..., Any], host: Any) -> Callable[..., Any]:
    def run(variables: dict[str, Any] | None = None, **options: Any) -> Any:
        return play(["nvme_storage"], [host], {**VARIABLES, **(variables or {})}, **options)

    return run


def table(name: str) -> str:
    return f"{TABLE.format(drive=DRIVE) % name}; simulated-settle"


def digest(host: Any, simulated: Any, serial: str = SERIAL) -> str:
    """Every byte of a drive, as it lies in its file."""
    host.run("sync")
    with simulated.backing(host.name, serial).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def simulated() -> Any:
    import sys

    return sys.modules["fleet"]


def words(play: Any) -> str:
    """What a run said, however its lines were broken and YAML quoted them."""
    return " ".join(play.output.split()).replace("''", "'")


def uuid(host: Any) -> str:
    return host.run(f"blkid -s UUID -o value {DRIVE}-part1").stdout.strip()


def test_an_empty_drive_is_formatted_mounted_by_uuid_and_left_alone_from_then_on(host: Any, apply: Any) -> None:
    bare = apply(check=True, diff=True)
    assert bare.rc == 0, bare.output
    assert "Would partition and format" in words(bare)
    assert not host.exists(f"{DRIVE}-part1")

    assert apply().rc == 0
    assert apply().changed == {"nvme": 0}

    line = host.read("/etc/fstab").split()
    assert line[:3] == [f"UUID={uuid(host)}", MOUNT, "ext4"]
    assert {"noatime", "nofail"} < set(line[3].split(","))
    options = host.run(f"findmnt --noheadings --output OPTIONS {MOUNT}").stdout
    assert "noatime" in options
    assert host.run(f"stat -c '%u %g %a' {MOUNT}/models/cache").stdout.split() == ["1234", "1234", "750"]
    assert host.run(f"blkid {DRIVE}-part1").stdout.count('LABEL="lefleet"') == 2  # the partition's too


def test_it_is_mounted_again_after_a_power_cut(host: Any, apply: Any) -> None:
    assert apply().rc == 0
    host.run(f"echo kept > {MOUNT}/file && sync")
    host.power_cut()
    assert host.read(f"{MOUNT}/file") == "kept\n"
    assert apply().changed == {"nvme": 0}


FOREIGN = {
    "ext4": (f"mkfs.ext4 -q -F -L photos {DRIVE}", "ext4, label 'photos'"),
    "xfs": (f"apt-get -qq install xfsprogs >/dev/null && mkfs.xfs -q -f -L films {DRIVE}", "xfs, label 'films'"),
    "LUKS": (f"printf 'LUKS\\xba\\xbe\\x00\\x01' | dd of={DRIVE} status=none", "crypto_LUKS"),
    "swap": (f"mkswap -q -L paging {DRIVE}", "swap, label 'paging'"),
    "LVM": (
        f"apt-get -qq install lvm2 >/dev/null 2>&1; pvcreate --quiet --yes --force --nolocking {DRIVE} >/dev/null",
        "LVM2_member, UUID",
    ),
    "MBR with a partition": (
        f"echo 'start=2048, type=83' | sfdisk --quiet {DRIVE}; simulated-settle; "
        f"mkfs.ext4 -q -L home {DRIVE}-part1",
        "partition 1 (0.4 GB): ext4, label 'home'",
    ),
    "an empty GPT": (f"echo 'label: gpt' | sfdisk --quiet {DRIVE}", "partition table gpt"),
    "our name for another file system": (
        f"{table('lefleet-new')}; mkfs.ext4 -q -L data {DRIVE}-part1",
        "label 'data'",
    ),
    "data without a signature": (
        f"head -c 1M /dev/urandom | dd of={DRIVE} bs=1M seek=398500000 oflag=seek_bytes status=none",
        "no signature, but data that is not zero",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_what_others_made_is_refused_and_not_one_byte_of_it_changes(
    host: Any, apply: Any, simulated: Any, name: str
) -> None:
    make, said = FOREIGN[name]
    host.run(make)
    before = digest(host, simulated)

    refused = apply(tasks_from="preflight") if name == "ext4" else apply()

    assert refused.failed == {"nvme": 1}
    assert said in words(refused)
    assert f'nvme_storage_erase_serial: "{SERIAL}"' in words(refused)
    assert apply({"nvme_storage_erase_serial": "OTHER"}).rc != 0 if name == "ext4" else True
    assert digest(host, simulated) == before
    assert not host.exists(MOUNT)


def test_a_named_serial_erases_that_drive_and_no_other(host: Any, apply: Any, simulated: Any) -> None:
    host.run(
        f"{FOREIGN['MBR with a partition'][0]}; mkfs.ext4 -q -F -L other /dev/disk/by-id/nvme-Simulated_NVMe_{SECOND}"
    )
    other = digest(host, simulated, SECOND)
    erase = {"nvme_storage_erase_serial": SERIAL}

    told = apply(erase, check=True)
    assert "Would ERASE" in words(told)
    assert "label 'home'" in words(told)
    assert host.run(f"blkid -s LABEL -o value {DRIVE}-part1").stdout == "home\n"

    assert apply(erase).rc == 0
    host.run(f"echo kept > {MOUNT}/file")
    assert apply(erase).changed == {"nvme": 0}  # a forgotten serial erases nothing of ours
    assert host.read(f"{MOUNT}/file") == "kept\n"
    assert digest(host, simulated, SECOND) == other


def test_a_drive_in_use_is_not_erased_even_when_named(host: Any, apply: Any) -> None:
    host.run(f"mkfs.ext4 -q -F {DRIVE} && mkdir -p /srv/mine && mount {DRIVE} /srv/mine && echo mine > /srv/mine/file")
    try:
        refused = apply({"nvme_storage_erase_serial": SERIAL})
        assert refused.rc != 0
        assert "mounted at /srv/mine" in words(refused)
        assert host.read("/srv/mine/file") == "mine\n"
    finally:
        host.run("umount /srv/mine")


def test_our_file_system_keeps_its_data_on_a_host_set_up_anew(host: Any, apply: Any) -> None:
    assert apply().rc == 0
    host.run(
        f"echo years > {MOUNT}/data && umount {MOUNT} && : > /etc/fstab && systemctl daemon-reload && rmdir {MOUNT}"
    )
    before = uuid(host)
    assert apply().rc == 0
    assert uuid(host) == before
    assert host.read(f"{MOUNT}/data") == "years\n"


def test_our_file_system_that_cannot_be_read_is_not_formatted_even_when_named(
    host: Any, apply: Any, simulated: Any
) -> None:
    assert apply().rc == 0
    host.run(f"umount {MOUNT} && dd if=/dev/zero of={DRIVE}-part1 bs=1024 seek=1 count=1 conv=fsync status=none")
    before = digest(host, simulated)
    refused = apply({"nvme_storage_erase_serial": SERIAL})
    assert refused.rc != 0
    assert "e2fsck" in words(refused)
    assert digest(host, simulated) == before


INTERRUPTED = {
    "while the table was written": f"{table('lefleet-new')}; partx --delete {DRIVE}; "
    f"dd if=/dev/zero of={DRIVE} bs=512 count=34 conv=fsync status=none",
    "after the table": f"{table('lefleet-new')}",
    "before the kernel knew the table": f"{table('lefleet-new')}; partx --delete {DRIVE} || true",
    "after mkfs": f"{table('lefleet-new')}; mkfs.ext4 -q -L lefleet {DRIVE}-part1",
    "before the mount": f"{table('lefleet')}; mkfs.ext4 -q -L lefleet {DRIVE}-part1",
    "after /etc/fstab": f"{table('lefleet')}; mkfs.ext4 -q -L lefleet {DRIVE}-part1; mkdir {MOUNT}; "
    f"echo UUID=$(blkid -s UUID -o value {DRIVE}-part1) {MOUNT} ext4 noatime,nofail 0 2 >> /etc/fstab",
}  # fmt: skip


@pytest.mark.parametrize("moment", INTERRUPTED)
def test_an_interrupted_run_is_continued(host: Any, apply: Any, moment: str) -> None:
    host.run(INTERRUPTED[moment])
    before = uuid(host) if "mkfs" in INTERRUPTED[moment] else ""
    assert apply().rc == 0
    assert before in ("", uuid(host))
    assert apply().changed == {"nvme": 0}


def test_a_host_that_loses_its_power_during_mkfs_is_continued(host: Any, apply: Any) -> None:
    """mkfs is held in the middle: half of its work is done when the power goes."""
    host.write(
        "/usr/local/sbin/mkfs.ext4",
        '#!/bin/sh\nfor last in "$@"; do :; done\n'
        'head -c 5M /dev/urandom | dd of="$last" bs=64k seek=1 conv=fsync status=none\ntouch /run/in-mkfs\nsleep 600\n',
    )
    host.run("chmod +x /usr/local/sbin/mkfs.ext4")
    killed: list[Any] = []
    run = threading.Thread(target=lambda: killed.append(apply()))
    run.start()
    for _ in range(600):
        if host.exists("/run/in-mkfs"):
            break
        time.sleep(0.2)
    host.run("rm /usr/local/sbin/mkfs.ext4")
    host.power_cut()
    run.join()
    assert killed[0].rc != 0
    assert apply().rc == 0
    assert apply().changed == {"nvme": 0}


def test_of_several_drives_none_is_guessed(host: Any, apply: Any) -> None:
    refused = apply({"nvme_storage_id": ""})
    assert refused.rc != 0
    assert "2 NVMe drives fit: set nvme_storage_id" in words(refused)
    assert SERIAL in refused.output
    assert SECOND in refused.output
    assert apply({"nvme_storage_id": f"nvme-Simulated_NVMe_{SERIAL}"}).rc == 0
    assert apply({"nvme_storage_id": ""}).changed == {"nvme": 0}  # one of them is ours by now


def test_a_mount_that_would_hide_files_is_refused(host: Any, apply: Any) -> None:
    host.run(f"mkdir -p {MOUNT}/docker && echo mine > {MOUNT}/docker/file")
    refused = apply()
    assert refused.rc != 0
    assert f"{MOUNT}/docker/file" in words(refused)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"nvme_storage_min_gb": 1}, "smaller than nvme_storage_min_gb=1"),
        ({"nvme_storage_id": "NONE"}, "nvme_storage_id=NONE names no"),
        ({"nvme_storage_mount": "/mnt"}, "nvme_storage_mount=/mnt must be"),
        ({"nvme_storage_mount_options": ["noatime"]}, "must be a list of options that has nofail"),
        ({"nvme_storage_folders": [{"path": "../etc"}]}, "nvme_storage_folders: `../etc` must be"),
    ],
)
def test_wrong_variables_are_refused_with_a_sentence(apply: Any, variables: dict[str, Any], said: str) -> None:
    refused = apply(variables, tasks_from="preflight")
    assert refused.rc != 0
    assert said in words(refused)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (f"umount {MOUNT}", "must be mounted at"),
        (f"mount -o remount,strictatime {MOUNT}", "must be mounted at"),
        ("sed -i s/nofail,// /etc/fstab", "/etc/fstab must say so"),
        (f"chmod 0777 {MOUNT}/models/cache", "Look at the folders"),
        ("systemctl disable --quiet fstrim.timer", "fstrim.timer is"),
    ],
)
def test_verify_sees_what_is_broken(host: Any, apply: Any, damage: str, said: str) -> None:
    assert apply().rc == 0
    assert apply(tasks_from="verify").rc == 0
    host.run(damage)
    broken = apply(tasks_from="verify")
    assert broken.rc != 0
    assert said in words(broken)
