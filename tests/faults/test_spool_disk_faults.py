"""The spool on a disk that is full, read-only or gone: it says so, loses nothing, and goes on when that is over."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lefleet_agent.episode import Outcome
from lefleet_agent.reserve import Reserve
from lefleet_agent.spool import Spool, SpoolError, State

pytestmark = pytest.mark.faults

EPISODE_BYTES = 100_000


class Disk:
    """A file system of 8 MB in memory, which can be filled up, set read-only, taken away and brought back."""

    def __init__(self, place: Path) -> None:
        self.place, self._away = place, place.with_name("away")
        self._away.mkdir()
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=8m", "none", place)

    def fill(self) -> None:
        with (self.place / "filler").open("wb", buffering=0) as file:
            for size in (65536, 4096, 512, 1):
                self._fill(file, size)

    def _fill(self, file, size: int) -> None:
        try:
            while True:
                file.write(b"x" * size)
        except OSError as error:
            assert error.errno == 28

    def empty(self) -> None:
        (self.place / "filler").unlink()

    def read_only(self, on: bool) -> None:
        self._mount("-o", "remount,ro" if on else "remount,rw", self.place)

    def take_away(self) -> None:
        self._mount("--bind", self.place, self._away)
        self._unmount(self.place)

    def bring_back(self) -> None:
        self._mount("--bind", self._away, self.place)
        self._unmount(self._away)

    def end(self) -> None:
        for place in (self.place, self._away):
            subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)

    def _mount(self, *words: str | Path) -> None:
        subprocess.run(["mount", *words], check=True, capture_output=True)

    def _unmount(self, place: Path) -> None:
        subprocess.run(["umount", "--lazy", place], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.end()


def add(spool: Spool, name: str) -> None:
    spool.folder.mkdir(exist_ok=True)
    (spool.folder / f"{name}.h5").write_bytes(b"e" * EPISODE_BYTES)
    spool.add(
        name,
        f"{name}.h5",
        sha256=f"sha-{name}",
        size_bytes=EPISODE_BYTES,
        outcome=Outcome.FAILURE,
        interrupted=False,
        ended_wall_ns=0,
    )


def deliver(spool: Spool, name: str) -> None:
    spool.acknowledge(name, {"sha256": f"sha-{name}", "receipt_id": "r"})


def test_a_full_disk_is_emptied_by_freeing_what_the_server_has(disk):
    spool = Spool(disk.place / "spool")
    add(spool, "a")
    deliver(spool, "a")
    disk.fill()
    assert [episode.episode_id for episode in spool.free_to_budget(0)] == ["a"]
    assert spool.get("a").state is State.FREED and not (spool.folder / "a.h5").exists()


def test_on_a_full_disk_a_receipt_still_finds_room(disk):
    """Otherwise nothing could be acknowledged, so nothing freed, so the disk would be full for ever."""
    folder = disk.place / "spool"
    first = Spool(folder, Reserve(folder / "reserve"))
    add(first, "a")
    first.free_to_budget(10**9)
    first.close()  # the last one: SQLite deletes its log, and needs new room for one
    disk.fill()

    without = Spool(folder)
    with pytest.raises(SpoolError, match=r"index\.sqlite3: .*; .*what is on it stays"):
        deliver(without, "a")
    spool = Spool(folder, Reserve(folder / "reserve"))
    deliver(spool, "a")
    assert not (folder / "reserve").exists()
    assert [episode.episode_id for episode in spool.free_to_budget(0)] == ["a"]
    disk.empty()
    spool.free_to_budget(10**9)
    assert (folder / "reserve").stat().st_blocks > 0, "it is there for the next time"


def test_a_read_only_disk_frees_and_forgets_nothing_and_works_again_when_it_is_mended(disk):
    spool = Spool(disk.place / "spool")
    for name in ("a", "b"):
        add(spool, name)
    deliver(spool, "a")
    spool.close()  # the kernel sets no disk read-only by our wish while a file is open for writing
    disk.read_only(True)
    for attempt in (lambda: deliver(spool, "b"), lambda: spool.free_to_budget(0)):
        with pytest.raises(SpoolError, match=r"what is on it stays"):
            attempt()
    disk.read_only(False)
    assert (spool.folder / "a.h5").exists()
    assert (spool.get("a").state, spool.get("b").state) == (State.ACKNOWLEDGED, State.WAITING)
    deliver(spool, "b")
    assert [episode.episode_id for episode in spool.free_to_budget(0)] == ["a", "b"]


def test_a_disk_that_vanished_is_missed_at_once_and_found_again(disk):
    """Also when SQLite could go on with the files that it still holds open, and no second spool takes its place."""
    spool = Spool(disk.place / "spool")
    add(spool, "a")
    disk.take_away()
    for attempt in (spool.stats, lambda: deliver(spool, "a"), spool.next_waiting):
        with pytest.raises(SpoolError, match=r"look whether the disk of .* is there"):
            attempt()
    assert not list(disk.place.iterdir()), "nothing was written where the disk should be"
    disk.bring_back()
    assert spool.next_waiting().episode_id == "a"
    deliver(spool, "a")
    assert Spool(spool.folder).get("a").state is State.ACKNOWLEDGED
