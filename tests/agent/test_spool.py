import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lefleet_agent.episode import Outcome
from lefleet_agent.retention import WhenFull
from lefleet_agent.spool import Spool, SpoolError, State


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


def add(
    spool: Spool,
    name: str,
    outcome: Outcome = Outcome.SUCCESS,
    ended: int = 0,
    size: int = 100,
    intervened: bool = False,
) -> bool:
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
        intervened=intervened,
    )


def deliver(spool: Spool, name: str) -> None:
    spool.acknowledge(name, {"sha256": f"sha-{name}", "receipt_id": f"r-{name}"})


def files(spool: Spool) -> set[str]:
    return {path.stem for path in spool.folder.glob("*.h5")}


def test_a_new_spool_is_empty_and_has_room(spool):
    assert spool.next_waiting() is None
    assert spool.stats().bytes == 0
    assert spool.has_room(1)


def test_newest_failure_or_intervention_first_then_the_newest_of_the_others(spool):
    add(spool, "old-success")
    add(spool, "old-failure", Outcome.FAILURE)
    add(spool, "corrected", intervened=True)
    add(spool, "new-failure", Outcome.FAILURE)
    add(spool, "new-success")
    add(spool, "unknown", Outcome.UNKNOWN)
    order = []
    while (episode := spool.next_waiting()) is not None:
        order.append(episode.episode_id)
        deliver(spool, episode.episode_id)
    assert order == ["new-failure", "corrected", "old-failure", "unknown", "new-success", "old-success"]


def test_a_clock_that_starts_in_1970_or_jumps_changes_no_order(spool):
    """A Jetson without a clock battery: what counts is which episode came into the spool later."""
    for name, ended in (("a", 1_700_000_000), ("b", 5), ("c", 9_999_999_999), ("d", 6)):
        add(spool, name, ended=ended)
    order = []
    while (episode := spool.next_waiting()) is not None:
        order.append(episode.episode_id)
        deliver(spool, episode.episode_id)
    assert order == ["d", "c", "b", "a"]
    assert [episode.episode_id for episode in spool.free_to_budget(0)] == ["a", "b", "c", "d"]


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


def test_with_the_setting_what_the_server_lacks_goes_too_the_least_valuable_first_and_the_loss_stays_visible(spool):
    add(spool, "failure", Outcome.FAILURE)
    add(spool, "corrected", intervened=True)
    add(spool, "success")
    add(spool, "unknown", Outcome.UNKNOWN)
    add(spool, "delivered", Outcome.FAILURE)
    deliver(spool, "delivered")

    assert spool.make_room(400, WhenFull.FREE_BY_VALUE)
    assert files(spool) == {"failure", "corrected", "success", "unknown"}
    assert spool.stats().lost_episodes == 0, "the server has it"
    assert not spool.make_room(400, WhenFull.STOP), "full, and nothing may go"

    assert spool.make_room(200, WhenFull.FREE_BY_VALUE)
    assert files(spool) == {"failure", "corrected"}
    assert (spool.stats().lost_episodes, spool.freed_episodes()) == (2, 3)
    lost = spool.get("success")
    assert lost.state is State.FREED and not lost.acknowledged
    assert "the server does not have it" in lost.reason and "free_by_value" in lost.reason


def test_what_the_server_lost_waits_again_unless_it_left_the_disk(spool):
    for name in ("here", "freed", "gone"):
        add(spool, name)
        deliver(spool, name)
    known = spool.acknowledged()
    assert [episode.episode_id for episode in known] == ["gone", "freed", "here"]
    spool._free(spool.get("freed"), "for the test")
    (spool.folder / "gone.h5").unlink()

    assert [episode.episode_id for episode in spool.offer_again(known, "the server lost it")] == ["here"]
    here = spool.get("here")
    assert (here.state, here.receipt, here.reason) == (State.WAITING, None, "the server lost it")
    assert spool.free_to_budget(100) and files(spool) == {"here"}, "it is safe from freeing again"
    deliver(spool, "here")
    assert spool.get("here").reason is None


def test_an_episode_that_changed_meanwhile_is_not_freed(spool):
    add(spool, "a")
    deliver(spool, "a")
    before = spool.get("a")
    spool.offer_again([before], "the server lost it")
    assert not spool._free(before, "decided before")
    assert files(spool) == {"a"} and spool.get("a").state is State.WAITING


def test_a_receipt_for_an_episode_that_was_freed_on_its_way_undoes_the_loss(spool):
    add(spool, "a")
    spool.make_room(0, WhenFull.FREE_BY_VALUE)
    assert spool.stats().lost_episodes == 1
    deliver(spool, "a")
    assert spool.get("a").state is State.FREED and spool.get("a").acknowledged
    assert spool.stats().lost_episodes == 0
    with pytest.raises(SpoolError, match="freed"):
        deliver(spool, "a")


def test_a_file_that_somebody_deleted_is_noted_as_lost(spool):
    add(spool, "a")
    assert not spool.write_off("a"), "it is there"
    (spool.folder / "a.h5").unlink()
    assert spool.write_off("a")
    assert spool.get("a").state is State.FREED and spool.stats().lost_episodes == 1
    assert spool.write_off("a"), "it waits no longer"


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
    database = spool._database
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
from lefleet_agent.retention import WhenFull
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


RELEASED_SCHEMA = """
CREATE TABLE IF NOT EXISTS episodes (
    episode_id      TEXT PRIMARY KEY,
    file            TEXT NOT NULL,
    sha256          TEXT NOT NULL,
    bytes           INTEGER NOT NULL,
    outcome         TEXT NOT NULL,
    interrupted     INTEGER NOT NULL,
    ended_wall_ns   INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('waiting', 'acknowledged', 'refused', 'freed')),
    receipt         TEXT,
    reason          TEXT,
    changed_wall_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS episodes_by_state ON episodes (state, ended_wall_ns);
"""
RELEASED_ADD = "INSERT INTO episodes VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', NULL, NULL, ?) ON CONFLICT DO NOTHING"
"""Of version 0.1.0, word for word."""


@pytest.fixture
def released(spool) -> sqlite3.Connection:
    spool.folder.mkdir()
    database = sqlite3.connect(spool.folder / "index.sqlite3", autocommit=True)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(RELEASED_SCHEMA)
    database.execute(RELEASED_ADD, ("old", "old.h5", "sha-old", 100, "failure", 0, 5, 6))
    return database


def test_an_index_of_the_released_version_is_taken_over_with_what_it_holds(spool, released):
    released.close()
    add(spool, "new", intervened=True)
    assert [spool.get(name).intervened for name in ("old", "new")] == [False, True]
    deliver(spool, "old")
    assert spool.get("old").state is State.ACKNOWLEDGED


def test_the_released_version_goes_on_beside_this_one_and_after_it(spool, released):
    """While a robot is updated its recorder may still be the old one, and a bad release returns to it."""
    add(spool, "new", intervened=True)
    assert released.execute(RELEASED_ADD, ("late", "late.h5", "sha-late", 1, "success", 0, 7, 8)).rowcount == 1
    assert len(released.execute("SELECT * FROM episodes").fetchone()) == 11
    assert spool.get("late").state is State.WAITING and not spool.get("late").intervened
    released.close()


def test_an_index_of_a_later_kind_is_refused_with_the_remedy(spool, released):
    released.execute("PRAGMA user_version = 7")
    with pytest.raises(SpoolError, match=r"the index has version 7, this agent knows 0; update the agent"):
        spool.stats()


def test_an_index_that_was_deleted_under_way_is_made_anew(spool):
    add(spool, "a")
    for path in spool.folder.glob("index.*"):
        path.unlink()
    assert spool.get("a") is None
    assert add(spool, "a") and Spool(spool.folder).get("a") is not None
