import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lefleet_agent.episode import Outcome
from lefleet_agent.spool import Spool, SpoolError, State


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


def add(spool: Spool, name: str, outcome: Outcome = Outcome.SUCCESS, ended: int = 0, size: int = 100) -> bool:
    spool.folder.mkdir(exist_ok=True)
    (spool.folder / f"{name}.h5").write_bytes(b"x" * size)
    return spool.add(
        name,
        f"{name}.h5",
        sha256=f"sha-{name}",
        size_bytes=size,
        outcome=outcome,
        interrupted=False,
        ended_wall_ns=ended,
    )


def deliver(spool: Spool, name: str) -> None:
    spool.acknowledge(name, {"sha256": f"sha-{name}", "receipt_id": f"r-{name}"})


def files(spool: Spool) -> set[str]:
    return {path.stem for path in spool.folder.glob("*.h5")}


def test_a_new_spool_is_empty_and_has_room(spool):
    assert spool.next_waiting() is None
    assert spool.stats().bytes == 0
    assert spool.has_room(1)


def test_newest_failure_first_then_the_newest_of_the_others(spool):
    add(spool, "old-success", ended=1)
    add(spool, "old-failure", Outcome.FAILURE, ended=2)
    add(spool, "unknown", Outcome.UNKNOWN, ended=5)
    add(spool, "new-failure", Outcome.FAILURE, ended=3)
    add(spool, "new-success", ended=4)
    order = []
    while (episode := spool.next_waiting()) is not None:
        order.append(episode.episode_id)
        deliver(spool, episode.episode_id)
    assert order == ["new-failure", "old-failure", "unknown", "new-success", "old-success"]


def test_episodes_can_be_passed_over(spool):
    add(spool, "a", Outcome.FAILURE)
    add(spool, "b")
    assert spool.next_waiting(skip={"a"}).episode_id == "b"
    assert spool.next_waiting(skip={"a", "b"}) is None


def test_an_episode_enters_once(spool):
    assert add(spool, "a")
    deliver(spool, "a")
    assert not add(spool, "a")
    assert spool.get("a").state is State.ACKNOWLEDGED


def test_only_a_receipt_for_its_sha256_acknowledges(spool):
    add(spool, "a")
    for receipt in ({"sha256": "another"}, {}):
        with pytest.raises(
            SpoolError, match=r"episode a: a receipt for .* arrived, but it is waiting with SHA-256 sha-a"
        ):
            spool.acknowledge("a", receipt)
    assert spool.get("a").state is State.WAITING
    deliver(spool, "a")
    assert spool.get("a").receipt == {"sha256": "sha-a", "receipt_id": "r-a"}
    with pytest.raises(SpoolError, match="acknowledged"):
        deliver(spool, "a")
    with pytest.raises(SpoolError, match="unknown here"):
        deliver(spool, "b")


def test_a_refused_episode_is_kept_and_not_offered_again(spool):
    add(spool, "a")
    spool.refuse("a", "HDF5 is unreadable")
    assert spool.next_waiting() is None
    assert spool.free_to_budget(0) == []
    assert files(spool) == {"a"}
    assert spool.get("a").reason == "HDF5 is unreadable"
    with pytest.raises(SpoolError, match="refused"):
        deliver(spool, "a")
    with pytest.raises(SpoolError, match="refused"):
        spool.refuse("a", "again")


def test_the_budget_frees_what_the_server_has_oldest_first(spool):
    for number, name in enumerate(["a", "b", "c", "d"]):
        add(spool, name, ended=number)
    for name in ("c", "a", "b"):
        deliver(spool, name)
    assert [episode.episode_id for episode in spool.free_to_budget(250)] == ["a", "b"]
    assert files(spool) == {"c", "d"}
    assert spool.stats().bytes == 200
    assert spool.free_to_budget(250) == []


def test_nothing_that_the_server_lacks_is_ever_freed(spool):
    for name in ("a", "b", "c"):
        add(spool, name)
    deliver(spool, "b")
    spool.free_to_budget(0)
    assert files(spool) == {"a", "c"}
    assert spool.stats().waiting_episodes == 2


def test_a_freed_episode_stays_known(spool):
    """Otherwise a journal that survived its episode would be published again."""
    add(spool, "a")
    deliver(spool, "a")
    spool.free_to_budget(0)
    assert spool.get("a").state is State.FREED
    assert not add(spool, "a")


def test_freeing_goes_on_after_a_crash_between_file_and_index(spool):
    add(spool, "a")
    deliver(spool, "a")
    (spool.folder / "a.h5").unlink()
    assert [episode.episode_id for episode in spool.free_to_budget(0)] == ["a"]
    assert spool.get("a").state is State.FREED


def test_room_is_what_the_server_lacks_against_the_budget(spool):
    add(spool, "a", size=60)
    add(spool, "b", size=60)
    assert spool.has_room(121)
    assert not spool.has_room(120)
    spool.refuse("b", "bad")
    assert not spool.has_room(120), "a refused episode still lies on the disk"
    deliver(spool, "a")
    assert spool.has_room(120), "an acknowledged one can go at any time"


def test_what_is_committed_survives_another_opening(spool):
    add(spool, "a", Outcome.FAILURE, ended=9)
    episode = spool.next_waiting()
    assert episode == Spool(spool.folder).next_waiting()
    assert (episode.path, episode.bytes, episode.outcome) == (spool.folder / "a.h5", 100, Outcome.FAILURE)


def test_commits_reach_the_disk_before_they_count(spool):
    """FULL: what the index says must be true after a power cut too."""
    add(spool, "a")
    with spool._using() as database:
        assert database.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_two_claims_of_one_step_succeed_once(spool):
    add(spool, "a")
    results = []

    def claim() -> None:
        try:
            deliver(Spool(spool.folder), "a")
            results.append("done")
        except SpoolError:
            results.append("late")

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["done"] + ["late"] * 7


def test_threads_share_one_spool(spool):
    threads = [threading.Thread(target=add, args=(spool, f"e{n}")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spool.stats().waiting_episodes == 16


ADD = """
import sys
from pathlib import Path
from lefleet_agent.episode import Outcome
from lefleet_agent.spool import Spool
spool = Spool(Path(sys.argv[1]))
for number in range(50):
    spool.add(f"{sys.argv[2]}-{number}", "f", sha256="s", size_bytes=1, outcome=Outcome.SUCCESS, interrupted=False,
              ended_wall_ns=number)
    spool.next_waiting()
"""


def test_processes_share_one_index(tmp_path):
    """The recorder adds while the courier reads, and neither sees a locked database."""
    folder = tmp_path / "spool"
    processes = [subprocess.Popen([sys.executable, "-c", ADD, str(folder), name]) for name in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert Spool(folder).stats().waiting_episodes == 150


def test_a_damaged_index_is_named_with_its_remedy(tmp_path):
    (tmp_path / "index.sqlite3").write_bytes(b"this is no database, and it is long enough" * 100)
    with pytest.raises(SpoolError, match=r"index\.sqlite3: file is not a database; if it is damaged, delete it"):
        Spool(tmp_path).stats()


def test_the_index_admits_no_unknown_state(spool):
    add(spool, "a")
    with sqlite3.connect(Path(spool.folder) / "index.sqlite3") as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("UPDATE episodes SET state = 'lost'")
