import dataclasses
import signal
import subprocess
import sys
import time

import h5py
import pytest

from lefleet_agent.episode import Outcome
from lefleet_agent.recording import journal
from lefleet_agent.recording.messages import EpisodeEnd
from lefleet_agent.recording.publisher import Job, Publisher, publish
from lefleet_agent.spool import Spool, State

END = EpisodeEnd(Outcome.FAILURE, False, "time limit", frames_dropped=0, ended_wall_ns=1_700_000_001_000_000_000)

KILLED_AFTER = """
import os, signal, sys
from pathlib import Path
from lefleet_agent.recording import journal
from lefleet_agent.recording.publisher import Job, publish
from lefleet_agent.spool import Spool
locked = journal.lock(Path(sys.argv[1]))
for step in publish(Job(locked), Spool(Path(sys.argv[2])), print):
    if step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def spool(tmp_path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.folder.mkdir()
    return spool


def recover(tmp_path, spool) -> list[str]:
    """What a recorder does at its start; returns the outcomes it counted."""
    published: list[str] = []
    publisher = Publisher(tmp_path / "journal", spool, published.append, retry_period_s=60)
    publisher.start()
    publisher.finish()
    assert publisher.error is None
    return published


def left(tmp_path) -> list[str]:
    return sorted(path.suffix for folder in ("journal", "spool") for path in (tmp_path / folder).iterdir())


ONE_EPISODE = [".h5", ".sqlite3", ".sqlite3-shm", ".sqlite3-wal"]


def test_a_journal_becomes_an_episode_and_goes(make_journal, spool, tmp_path):
    path = make_journal(6, end=END)
    locked = journal.lock(path)
    steps = list(publish(Job(locked), spool, lambda outcome: None))
    assert steps == ["built", "published", "indexed", "journal deleted"]
    episode = spool.next_waiting()
    assert episode.episode_id == path.stem
    assert (episode.outcome, episode.interrupted, episode.bytes) == (
        Outcome.FAILURE,
        False,
        episode.path.stat().st_size,
    )
    assert left(tmp_path) == ONE_EPISODE


@pytest.mark.faults
def test_an_episode_in_which_a_person_took_over_is_marked_in_the_spool(make_journal, make_frames, spool, tmp_path):
    for led in (False, True):
        frames = [dataclasses.replace(frame, intervention=led) for frame in make_frames(3)]
        path = make_journal(end=END, frames=frames)
        recover(tmp_path, spool)
        assert spool.get(path.stem).intervened is led


@pytest.mark.parametrize("step", ["built", "published", "indexed", "journal deleted"])
def test_a_kill_after_any_step_leaves_one_episode_in_the_end(make_journal, spool, tmp_path, step):
    path = make_journal(6, end=END)
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER, path, spool.folder, step], check=False)
    assert killed.returncode == -signal.SIGKILL
    recover(tmp_path, spool)
    assert left(tmp_path) == ONE_EPISODE
    assert spool.stats().waiting_episodes == 1
    with h5py.File(spool.next_waiting().path) as file:
        assert (file.attrs["frames"], file.attrs["outcome"]) == (6, "failure")
    assert recover(tmp_path, spool) == [], "a second start finds nothing to do"


def test_a_torn_part_is_replaced(make_journal, spool, tmp_path):
    path = make_journal(6, end=END)
    (spool.folder / f"{path.stem}.h5.part").write_bytes(b"torn")
    assert recover(tmp_path, spool) == ["failure"]
    assert left(tmp_path) == ONE_EPISODE


def test_a_journal_whose_episode_was_delivered_and_freed_is_only_deleted(make_journal, spool, tmp_path):
    path = make_journal(6, end=END)
    data = path.read_bytes()
    recover(tmp_path, spool)
    episode = spool.next_waiting()
    spool.acknowledge(episode.episode_id, {"sha256": episode.sha256})
    spool.free_to_budget(0)
    path.write_bytes(data)
    assert recover(tmp_path, spool) == []
    assert spool.get(path.stem).state is State.FREED
    assert not list(spool.folder.glob("*.h5"))
    assert not path.exists()


def test_a_whole_file_that_the_index_lost_is_taken_in_again(make_journal, spool, tmp_path):
    make_journal(6, end=END)
    recover(tmp_path, spool)
    before = spool.next_waiting()
    spool.close()
    for path in spool.folder.glob("index.sqlite3*"):
        path.unlink()
    assert recover(tmp_path, spool) == ["failure"]
    assert spool.next_waiting() == before


def test_journals_that_hold_nothing_leave_no_episode(make_journal, spool, tmp_path):
    make_journal(0)
    bad = make_journal(3)
    bad.write_bytes(b"\0" * bad.stat().st_size)
    assert recover(tmp_path, spool) == []
    assert [path.name for path in (tmp_path / "journal").iterdir()] == [f"{bad.stem}.unreadable"]
    assert spool.stats().bytes == 0


def test_a_journal_in_use_is_left_alone(make_journal, spool, tmp_path):
    path = make_journal(3)
    locked = journal.lock(path)
    assert recover(tmp_path, spool) == []
    assert path.exists()
    locked.close()
    assert recover(tmp_path, spool) == ["unknown"]


def test_one_journal_that_fails_does_not_hold_up_the_others_and_is_tried_again(make_journal, spool, tmp_path):
    blocked, good = sorted([make_journal(3, end=END), make_journal(3, end=END)])
    obstacle = spool.folder / f"{blocked.stem}.h5.part"
    obstacle.mkdir()
    published: list[str] = []
    publisher = Publisher(tmp_path / "journal", spool, published.append, retry_period_s=0.01)
    publisher.start()
    wait_until(lambda: publisher.error and not good.exists())
    assert blocked.stem in publisher.error
    assert blocked.exists()
    obstacle.rmdir()
    wait_until(lambda: not blocked.exists())
    publisher.finish()
    assert publisher.error is None
    assert len(published) == 2


def wait_until(condition) -> None:
    """Until it holds; the test's own time limit ends a wait that is in vain."""
    while not condition():
        time.sleep(0.01)
