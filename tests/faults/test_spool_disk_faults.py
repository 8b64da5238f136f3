"""The spool on a disk that is full, read-only or gone: it says so, loses nothing, and goes on when that is over."""

import pytest

from lefleet_agent.recording.sink import RecorderError
from lefleet_agent.reserve import Reserve
from lefleet_agent.spool import Spool, SpoolError, State
from lefleet_agent.wiring import build_room

pytestmark = pytest.mark.faults


@pytest.fixture
def disk(make_disk, tmp_path):
    return make_disk(tmp_path / "disk")


def deliver(spool: Spool, name: str) -> None:
    spool.acknowledge(name, {"sha256": spool.get(name).sha256, "receipt_id": "r"})


def test_a_full_disk_is_emptied_by_freeing_what_the_server_has(disk, put):
    spool = Spool(disk.place / "spool")
    put(spool, "a")
    deliver(spool, "a")
    disk.fill()
    assert [episode.episode_id for episode in spool.free_to_budget(0)] == ["a"]
    assert spool.get("a").state is State.FREED and not (spool.folder / "a.h5").exists()


def test_on_a_full_disk_a_receipt_still_finds_room(disk, put):
    """Otherwise nothing could be acknowledged, so nothing freed, so the disk would be full for ever."""
    folder = disk.place / "spool"
    first = Spool(folder, Reserve(folder / "reserve"))
    put(first, "a")
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


def test_a_read_only_disk_frees_and_forgets_nothing_and_works_again_when_it_is_mended(disk, put):
    spool = Spool(disk.place / "spool")
    for name in ("a", "b"):
        put(spool, name)
    deliver(spool, "a")
    spool.close()  # the kernel sets no disk read-only by our wish while a file is open for writing
    disk.read_only(True)
    for attempt in (lambda: deliver(spool, "b"), lambda: spool.free_to_budget(0), spool.stats):
        with pytest.raises(SpoolError, match=r"what is on it stays"):
            attempt()
    disk.read_only(False)
    assert (spool.folder / "a.h5").exists()
    assert (spool.get("a").state, spool.get("b").state) == (State.ACKNOWLEDGED, State.WAITING)
    deliver(spool, "b")
    assert [episode.episode_id for episode in spool.free_to_budget(0)] == ["a", "b"]


def test_a_disk_that_vanished_is_missed_at_once_and_found_again(disk, put):
    """Also when SQLite could go on with the files that it still holds open, and no second spool takes its place."""
    spool = Spool(disk.place / "spool")
    put(spool, "a")
    disk.take_away()
    for attempt in (spool.stats, lambda: deliver(spool, "a"), spool.next_waiting):
        with pytest.raises(SpoolError, match="look whether its disk is there"):
            attempt()
    assert not list(disk.place.iterdir()), "nothing was written where the disk should be"
    disk.bring_back()
    assert spool.next_waiting().episode_id == "a"
    deliver(spool, "a")
    assert Spool(spool.folder).get("a").state is State.ACKNOWLEDGED


def test_what_is_wrong_with_the_spool_is_said_by_control_and_ends_nothing(robot_side, put):
    side = robot_side("http://127.0.0.1:9")
    put(side.spool, "a")
    has_room = build_room(side.settings)
    assert has_room()
    for path in side.spool.folder.glob("index.*"):
        path.unlink()
    (side.spool.folder / "index.sqlite3").write_bytes(b"no database at all" * 1000)
    with pytest.raises(RecorderError, match=r"nothing can be recorded: .* file is not a database; if it is damaged"):
        has_room()
    (side.spool.folder / "index.sqlite3").unlink()
    assert has_room()
