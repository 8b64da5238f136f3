"""Role swap on a simulated Jetson: size, place, interruption, and what lies in swap while the file is replaced."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

MOUNT = "/mnt/lefleet"
FILE = f"{MOUNT}/swapfile"
SMALL = {"swap_size_mb": 192}
LARGE = {**SMALL, "swap_size_mb": 256}
NONE = {**SMALL, "swap_size_mb": 0}

# Fills more memory than it may have, so that a part of it lies in swap; says later whether all is still right.
HOG = """
import pathlib, time
kept = [bytearray([number % 251]) * 1_000_000 for number in range(96)]
pathlib.Path("/run/hog-ready").touch()
while not pathlib.Path("/run/hog-ask").exists():
    time.sleep(0.2)
right = all(part.count(number % 251) == len(part) for number, part in enumerate(kept))
pathlib.Path("/run/hog-right").write_text(str(right))
"""

Play = Callable[..., Any]


@pytest.fixture(scope="module")
def bare(fleet: Any) -> Any:
    """A Jetson with two drives that hold no file system yet."""
    return fleet.host("swap", drives=[(1200, "SWAPA"), (1200, "SWAPB")])


@pytest.fixture(scope="module")
def mounted(bare: Any) -> Any:
    bare.run(f"mkfs.ext4 -q /dev/nvme0n1 && mkdir -p {MOUNT} && mount /dev/nvme0n1 {MOUNT}")
    bare.run(f"echo '/dev/nvme0n1 {MOUNT} ext4 noatime,nofail 0 2' >> /etc/fstab")
    return bare


@pytest.fixture
def host(mounted: Any, play: Play) -> Iterator[Any]:
    """The host with the small swap file in use."""
    assert play(["swap"], [mounted], SMALL).rc == 0
    yield mounted
    mounted.run(
        "rm -f /usr/local/sbin/{fallocate,mkswap,swapoff,mv,swapon} /run/hog-*; systemctl stop hog", check=False
    )
    mounted.run("systemctl reset-failed hog", check=False)


def said_by(done: Any) -> str:
    """A run's output without its line breaks."""
    return " ".join(done.output.split())


def swap_mb(host: Any, path: str = FILE) -> int:
    """Megabytes of swap the kernel has in this file; 0: it is not in use.

    /proc/swaps shows those of other hosts on this kernel too, by the same paths: one in use gets no space.
    """
    probe = f"import os; os.posix_fallocate(os.open('{path}', os.O_WRONLY), 0, 1)"
    if "Text file busy" not in host.run(f'python3 -c "{probe}"', check=False).stderr:
        return 0
    return round(int(host.run(f"stat -c %s {path}", check=False).stdout or 0) / 1024**2)


def zram_mb(host: Any) -> int:
    lines = [line.split() for line in host.read("/proc/swaps").splitlines()[1:]]
    return sum(round(int(line[2]) / 1024) for line in lines if line[0] == "/dev/zram0")


def used_mb(host: Any) -> float:
    """What lies in swap of the priority that `hog` gives to this host's file."""
    lines = [line.split() for line in host.read("/proc/swaps").splitlines()[1:]]
    return sum(int(line[3]) / 1024 for line in lines if line[4] == "10")


def hog(host: Any) -> None:
    host.write("/usr/local/bin/hog.py", HOG)
    host.run(f"swapoff {FILE} && swapon --priority 10 {FILE}")  # before the swap of other hosts on this kernel
    host.run(
        "rm -f /run/hog-*; systemd-run --unit=hog -p MemoryLimit=48M -p MemoryMax=48M python3 /usr/local/bin/hog.py"
    )
    wait_for(host, "/run/hog-ready")
    assert used_mb(host) > 20


def wait_for(host: Any, path: str, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not host.exists(path):
        assert time.monotonic() < end, host.run("systemctl status hog", check=False).stdout
        time.sleep(0.3)


def test_check_mode_on_a_bare_host_says_what_it_would_do_and_does_nothing(bare: Any, play: Play) -> None:
    done = play(["swap"], [bare], SMALL, check=True, diff=True)
    assert done.rc == 0 and done.changed["swap"] > 0
    assert "no drive is mounted there" in said_by(done)
    assert not bare.exists(MOUNT) and "swap" not in bare.read("/etc/fstab")
    assert bare.exists("/run/simulated-zram")


def test_without_a_drive_it_refuses_and_changes_nothing(bare: Any, play: Play) -> None:
    done = play(["swap"], [bare], SMALL)
    assert done.rc != 0 and done.changed["swap"] == 0
    assert "no drive is mounted there" in said_by(done)
    assert not bare.exists(MOUNT)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"swap_size_mb": 8}, "swap_size_mb=8 must be 0 or at least 16"),
        ({"swap_size_mb": -1}, "swap_size_mb=-1 must be 0 or at least 16"),
        ({"swap_file": "swapfile"}, "swap_file=swapfile an absolute path"),
        ({"swap_file": "/swapfile"}, "swap_file=/swapfile an absolute path"),
        ({"swap_file": "/mnt/../swapfile"}, "swap_file=/mnt/../swapfile an absolute path"),
        ({"swap_swappiness": 201}, "swap_swappiness=201 from 0 to 200"),
    ],
)
def test_wrong_variables_stop_before_anything_changes(bare: Any, play: Play, wrong: dict[str, Any], said: str) -> None:
    done = play(["swap"], [bare], {**SMALL, **wrong}, tasks_from="preflight")
    assert done.rc != 0 and done.changed["swap"] == 0
    assert said in said_by(done)


def test_the_first_run_makes_swap_and_the_second_changes_nothing(mounted: Any, play: Play) -> None:
    first = play(["swap"], [mounted], SMALL)
    assert first.rc == 0 and swap_mb(mounted) == 192
    assert mounted.run(f"stat -c %a {FILE}").stdout.strip() == "600"
    assert f"{FILE} none swap sw,nofail 0 0" in mounted.read("/etc/fstab")
    assert not mounted.exists("/run/simulated-zram"), "nvzramconfig was not stopped"
    assert mounted.run("systemctl is-enabled nvzramconfig", check=False).stdout.strip() == "disabled"
    assert mounted.read("/proc/sys/vm/swappiness").strip() == "10"
    second = play(["swap"], [mounted], SMALL)
    assert second.rc == 0 and second.changed["swap"] == 0


def test_it_runs_without_mitogen_too(host: Any, play: Play) -> None:
    for variables, changes in ((LARGE, True), (LARGE, False)):
        done = play(["swap"], [host], variables, environment={"ANSIBLE_STRATEGY": "linear"})
        assert done.rc == 0 and (done.changed["swap"] > 0) == changes
    assert swap_mb(host) == 256


@pytest.mark.parametrize("size_mb", [256, 128])
def test_a_program_keeps_what_it_has_in_swap_while_the_file_is_replaced(host: Any, play: Play, size_mb: int) -> None:
    """It may not have it in memory: its limit is smaller, as a container's may be."""
    hog(host)
    done = play(["swap"], [host], {**SMALL, "swap_size_mb": size_mb})
    assert done.rc == 0 and swap_mb(host) == size_mb
    assert host.run(f"ls {FILE}.*", check=False).returncode != 0, "the bridge or a part was left"
    host.run("touch /run/hog-ask")
    wait_for(host, "/run/hog-right")
    assert host.read("/run/hog-right") == "True"


def test_what_does_not_fit_into_memory_stays_in_swap(host: Any, play: Play) -> None:
    hog(host)
    done = play(["swap"], [host], {**NONE, "swap_reserve_mb": 10**7})
    assert done.rc != 0 and "cannot be switched off now" in said_by(done)
    assert swap_mb(host) == 192


@pytest.mark.parametrize("killed_at", ["fallocate", "mkswap", "swapoff", "mv", "swapon"])
def test_an_interrupted_resize_is_continued_by_the_next_run(host: Any, play: Play, killed_at: str) -> None:
    hog(host)
    half = "/usr/bin/fallocate -l 7M ${@: -1}; " if killed_at == "fallocate" else ""
    host.write(f"/usr/local/sbin/{killed_at}", f"#!/bin/bash\n{half}exit 1\n")
    host.run(f"chmod +x /usr/local/sbin/{killed_at}")
    assert play(["swap"], [host], LARGE).rc != 0
    host.run(f"rm /usr/local/sbin/{killed_at}")
    assert play(["swap"], [host], LARGE).rc == 0
    assert swap_mb(host) == 256 and swap_mb(host, f"{FILE}.bridge") == 0
    assert host.run(f"ls {FILE}.*", check=False).returncode != 0, "the bridge or a part was left"
    assert play(["swap"], [host], LARGE).changed["swap"] == 0
    host.run("touch /run/hog-ask")
    wait_for(host, "/run/hog-right")
    assert host.read("/run/hog-right") == "True"


def test_it_is_on_again_after_a_reboot(host: Any, play: Play) -> None:
    host.reboot()
    assert swap_mb(host) == 192 and host.read("/proc/sys/vm/swappiness").strip() == "10"
    assert play(["swap"], [host], SMALL).changed["swap"] == 0


def test_without_room_it_refuses_and_keeps_the_old_one(host: Any, play: Play) -> None:
    done = play(["swap"], [host], {**SMALL, "swap_size_mb": 4096})
    assert done.rc != 0 and "MB left" in said_by(done)
    assert swap_mb(host) == 192


def test_a_file_that_is_no_swap_is_never_overwritten(host: Any, play: Play) -> None:
    host.run(f"echo precious > {MOUNT}/letters")
    done = play(["swap"], [host], {**SMALL, "swap_file": f"{MOUNT}/letters"})
    assert done.rc != 0 and "something else than swap" in said_by(done)
    assert host.read(f"{MOUNT}/letters") == "precious\n"


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (f"swapoff {FILE}", "in use False"),
        (f"chmod 0644 {FILE}", "mode 0644"),
        (f"sed -i '\\:{FILE}:d' /etc/fstab", "fstab []"),
        ("echo 60 > /proc/sys/vm/swappiness", "vm.swappiness 60"),
    ],
)
def test_verify_finds_what_is_broken_and_the_role_mends_it(host: Any, play: Play, breaks: str, said: str) -> None:
    host.run(breaks)
    done = play(["swap"], [host], SMALL, tags=["swap_verify"])
    assert done.rc != 0 and said in said_by(done)
    assert play(["swap"], [host], SMALL).rc == 0
    assert play(["swap"], [host], SMALL, tags=["swap_verify"]).rc == 0


def test_zram_in_use_is_switched_off_and_moves_to_the_file(host: Any, play: Play) -> None:
    if host.run("mount -o remount,rw /sys && test -e /sys/block/zram0/disksize", check=False).returncode != 0:
        pytest.skip("this kernel has no zram")
    if host.read("/sys/block/zram0/disksize").strip() != "0":
        pytest.skip("somebody else uses this machine's zram0")
    host.run("mknod /dev/zram0 b $(tr : ' ' < /sys/block/zram0/dev); echo 128M > /sys/block/zram0/disksize")
    try:
        host.run("mkswap -q /dev/zram0 && swapon --priority 5 /dev/zram0")
        assert zram_mb(host) == 128
        done = play(["swap"], [host], SMALL)
        assert done.rc == 0 and done.changed["swap"] == 1
        assert zram_mb(host) == 0 and swap_mb(host) == 192
    finally:
        host.run("swapoff /dev/zram0; echo 1 > /sys/block/zram0/reset; mount -o remount,ro /sys", check=False)


def test_zero_removes_it(host: Any, play: Play) -> None:
    assert play(["swap"], [host], NONE).rc == 0
    assert swap_mb(host) == 0 and not host.exists(FILE) and FILE not in host.read("/etc/fstab")
    assert play(["swap"], [host], NONE).changed["swap"] == 0


def test_xfs_can_hold_it(host: Any, play: Play) -> None:
    host.run("apt-get install --yes --no-install-recommends xfsprogs >/dev/null && mkfs.xfs -q -f /dev/nvme1n1")
    host.run("mkdir -p /mnt/second && mount /dev/nvme1n1 /mnt/second")
    here = {**SMALL, "swap_file": "/mnt/second/swapfile"}
    try:
        assert play(["swap"], [host], here).rc == 0
        assert swap_mb(host, "/mnt/second/swapfile") == 192
        assert play(["swap"], [host], here).changed["swap"] == 0
        assert play(["swap"], [host], {**here, "swap_size_mb": 0}).rc == 0
    finally:
        host.run("swapoff /mnt/second/swapfile; umount /mnt/second", check=False)


def test_btrfs_is_refused(host: Any, play: Play) -> None:
    host.run("apt-get install --yes --no-install-recommends btrfs-progs >/dev/null && mkfs.btrfs -q -f /dev/nvme1n1")
    host.run("mkdir -p /mnt/second && mount /dev/nvme1n1 /mnt/second")
    try:
        done = play(["swap"], [host], {**SMALL, "swap_file": "/mnt/second/swapfile"})
        assert done.rc != 0 and "make it ext4 or xfs" in said_by(done)
        assert not host.exists("/mnt/second/swapfile.part")
    finally:
        host.run("umount /mnt/second")


def test_an_sd_card_is_refused_even_where_the_root_is_allowed(host: Any, play: Play) -> None:
    host.run("cp -a /dev/nvme1n1 /dev/mmcblk0p1 && mkfs.ext4 -q -F /dev/mmcblk0p1")
    host.run("mkdir -p /mnt/card && mount /dev/mmcblk0p1 /mnt/card && ln -sfn /mnt/card /mnt/disguised")
    try:
        for folder in ("/mnt/card", "/mnt/card/deeper", "/mnt/disguised"):
            done = play(["swap"], [host], {**SMALL, "swap_file": f"{folder}/swapfile", "swap_allow_root": True})
            assert done.rc != 0 and "SD card or eMMC" in said_by(done)
        assert host.run("ls /mnt/card").stdout.split() == ["lost+found"]
    finally:
        host.run("umount /mnt/card; rm /mnt/disguised /dev/mmcblk0p1")
