"""Cut the power and kill the recorder again and again; every episode must come back up to its last synced second.

    python tests/faults/soak.py --cuts 500 --kills 500 --json soak.json

The test suite does twenty of each. Each function checks by assertion and returns what it saw, for the report.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import cv2
import h5py
import numpy as np
from disk_log import LOG, Event, FolderSynced, Named, Removed, read_log, write_log
from power_cut import disk_after, synced_content

from lefleet_agent.episode import EpisodeInfo, Frame, Outcome
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.recording.journal import JournalReader
from lefleet_agent.recording.publisher import Publisher
from lefleet_agent.robots.fake import FakeRobot
from lefleet_agent.spool import Spool

CUTS_OF_ONE_RECORDING = 50
TICKS = 120
PERIOD_S = 0.005


def new_robot() -> FakeRobot:
    """Pictures of several pages each."""
    return FakeRobot("robot-1", height=120, width=160)


def new_info(robot: FakeRobot) -> EpisodeInfo:
    now = time.time_ns(), time.monotonic_ns()
    return EpisodeInfo(uuid.uuid4().hex, robot.info, None, "soak", 1 / PERIOD_S, "0", *now)


def frame(robot: FakeRobot) -> Frame:
    seen = robot.observe()
    sent = robot.send(seen.joints + 1)
    return Frame(seen, sent, sent, time.monotonic_ns(), time.time_ns(), 0, 0)


def hand_over(handle: RecorderHandle, robot: FakeRobot) -> None:
    """A tick; unlike control it waits for room, so that every tick counts on a busy machine too."""
    ring = handle._ring
    assert ring
    while not ring.has_room:
        time.sleep(PERIOD_S)
    assert handle.sink.add(frame(robot))
    time.sleep(PERIOD_S)


def cut_power(count: int, folder: Path, seed: int) -> Counter[str]:
    """Record an episode, then cut the power `count` times at random moments of it, its publication included."""
    chance = np.random.default_rng(seed)
    folder.mkdir()
    seen: Counter[str] = Counter()
    for number in range(0, count, CUTS_OF_ONE_RECORDING):
        recorded = folder / f"recorded-{number}"
        events, episode_id = record(recorded)
        with h5py.File(recorded / "spool" / f"{episode_id}.h5") as whole:
            for _ in range(min(CUTS_OF_ONE_RECORDING, count - number)):
                seen += cut_once(events, whole, recorded, folder / "after", chance)
        shutil.rmtree(recorded)
    return seen


def record(state: Path) -> tuple[list[Event], str]:
    """One episode by the real recorder, and what it asked of the disk."""
    os.environ[LOG] = str(state.with_suffix(".log"))
    robot = new_robot()
    info = new_info(robot)
    handle = RecorderHandle(RecorderConfig(state, robot.info, sync_period_s=0.05), setup=write_log)
    handle.start()
    handle.sink.begin(info)
    for _ in range(TICKS):
        hand_over(handle, robot)
    handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="soak")
    handle.close()
    return read_log(Path(os.environ[LOG])), info.episode_id


def cut_once(
    events: list[Event], whole: h5py.File, recorded: Path, after: Path, chance: np.random.Generator
) -> Counter[str]:
    cut = moment(events, chance)
    disk_after(events, cut, chance, after)
    if in_the_index(events, cut, chance):
        for index in (recorded / "spool").glob("index.sqlite3*"):
            shutil.copy(index, after / "spool")
    synced = synced_ticks(events, cut, after.with_name("synced.mcap"))
    episode_id = str(whole.attrs["episode_id"])
    kept = recover(after, episode_id)
    assert kept is not None or not synced, f"cut {cut}: {synced} synced ticks and no episode"
    if kept is not None:
        with h5py.File(kept) as file:
            ticks = compare(file, whole)
            assert ticks >= synced, f"cut {cut}: {ticks} ticks of {synced} synced ones"
            result = "whole episode" if not file.attrs["interrupted"] else "recovered"
    else:
        ticks, result = 0, "cut before the first synced tick"
    assert not list((after / "journal").glob("*.unreadable")) or not synced
    shutil.rmtree(after)
    return Counter({"cuts": 1, result: 1, "ticks synced": synced, "ticks recovered": ticks})


def moment(events: list[Event], chance: np.random.Generator) -> int:
    """Half of the cuts fall anywhere, half beside a name that changes: most goes wrong there, and there are few."""
    names = [place for place, event in enumerate(events) if isinstance(event, Named | Removed | FolderSynced)]
    if chance.random() < 0.5:
        return int(chance.integers(len(events) + 1))
    return int(chance.choice(names) + chance.integers(2))


def in_the_index(events: list[Event], cut: int, chance: np.random.Generator) -> bool:
    """The row is committed after the file's name is on the disk and before the journal goes."""
    if any(isinstance(event, Removed) and event.folder == "journal" for event in events[:cut]):
        return True
    return (
        cut > 0 and isinstance(events[cut - 1], FolderSynced) and named(events[:cut], ".h5") and chance.random() < 0.5
    )


def named(past: list[Event], suffix: str) -> bool:
    return any(isinstance(event, Named) and event.name.endswith(suffix) for event in past)


def synced_ticks(events: list[Event], cut: int, scratch: Path) -> int:
    """How many ticks the journal's synced bytes hold, once its name is there for good."""
    if not named(events[:cut], ".mcap"):
        return 0
    journal = next(event.inode for event in events if isinstance(event, Named) and event.folder == "journal")
    scratch.write_bytes(synced_content(events, cut, journal))
    return sum(isinstance(entry, bytes) for entry in JournalReader(scratch))


def recover(state: Path, episode_id: str) -> Path | None:
    """What the next start does; the episode's file, or None."""
    spool = Spool(state / "spool")
    publisher = Publisher(state / "journal", spool, lambda outcome: None, retry_period_s=60)
    publisher.start()
    publisher.finish()
    assert publisher.error is None
    found = spool.get(episode_id)
    assert not list((state / "journal").glob("*.mcap")), "published, and gone"
    assert found is not None or not list((state / "spool").glob("*.h5"))
    spool.close()
    return found.path if found else None


def compare(file: h5py.File, whole: h5py.File) -> int:
    """Every row must be the one that was recorded; returns how many there are."""
    ticks = int(file.attrs["frames"])
    assert (file["/action"][:] == whole["/action"][:ticks]).all()
    for camera in ("front", "wrist"):
        lengths = whole[f"/observations/image_bytes/{camera}"][:ticks]
        assert (file[f"/observations/image_bytes/{camera}"][:] == lengths).all()
        ours, theirs = file[f"/observations/images/{camera}"], whole[f"/observations/images/{camera}"]
        width = int(lengths.max())
        assert (ours[:, :width] == theirs[:ticks, :width]).all()
    return ticks


def kill_recorder(count: int, state: Path, seed: int) -> Counter[str]:
    """`kill -9` of the recorder `count` times: while it records, publishes or recovers."""
    chance = np.random.default_rng(seed)
    robot = new_robot()
    handle = RecorderHandle(RecorderConfig(state, robot.info))
    written: dict[str, int] = {}
    handle.start()
    for _ in range(count):
        episode_id, ticks = kill_once(handle, robot, chance)
        written[episode_id] = ticks
        handle.ensure_alive()
    handle.close()
    spool = Spool(state / "spool")
    seen = Counter({"kills": count})
    for episode_id, ticks in written.items():
        seen += check_killed(spool, episode_id, ticks)
    assert not list((state / "journal").iterdir())
    spool.close()
    return seen


def kill_once(handle: RecorderHandle, robot: FakeRobot, chance: np.random.Generator) -> tuple[str, int]:
    """The episode, and how many of its ticks the recorder had written when it died."""
    info = new_info(robot)
    robot.reset(0)
    handle.sink.begin(info)
    added = int(chance.integers(1, 80))
    for _ in range(added):
        hand_over(handle, robot)
    ended = bool(chance.random() < 0.4)
    if ended:
        handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="soak")
    time.sleep(float(chance.uniform(0, 0.15)))
    process = handle._process
    assert process
    process.kill()
    process.join()
    return info.episode_id, max(0, added - not_taken(handle, ended))


def not_taken(handle: RecorderHandle, ended: bool) -> int:
    """Ticks that may still have lain in the ring: its slots that were not given back, but for the episode's end."""
    ring = handle._ring
    assert ring
    ring._free += ring.free.take(ring.slots)
    return max(0, ring.slots - len(ring._free) - ended)


def check_killed(spool: Spool, episode_id: str, written: int) -> Counter[str]:
    found = spool.get(episode_id)
    assert found or not written, f"{episode_id}: {written} ticks were written, and there is no episode"
    if not found:
        return Counter({"killed before the first tick": 1})
    with h5py.File(found.path) as file:
        ticks = int(file.attrs["frames"])
        assert ticks >= written, f"{episode_id}: {ticks} ticks of {written}"
        assert all(cv2.imdecode(row, 1) is not None for row in file["/observations/images/wrist"][-3:])
        first = file["/action"][0, 0]
        np.testing.assert_allclose(file["/action"][:, 0], first + np.arange(ticks), atol=1e-3)
        return Counter({"recovered" if file.attrs["interrupted"] else "whole episode": 1, "ticks": ticks})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cuts", type=int, default=20)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path, help="write what was seen here")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="lefleet-soak-", dir="/var/tmp") as folder:
        seen = {
            "power cuts": cut_power(given.cuts, Path(folder) / "cuts", given.seed),
            "kill -9": kill_recorder(given.kills, Path(folder) / "kills", given.seed),
        }
    print(json.dumps(seen, indent=1))
    if given.json:
        given.json.write_text(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main()
