"""The disk is full, turns read-only, or is gone, while control ticks on: a real file system on a loop device."""

import contextlib
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest
from stalls import stall_disk

from lefleet_agent.episode import EpisodeInfo, Frame, Outcome
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.robots.fake import FakeRobot
from lefleet_agent.spool import Spool

pytestmark = pytest.mark.faults


class Disk:
    """An ext4 file system in a file, mounted on `folder`."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image, self.folder = image, folder
        self._ballast = folder / "ballast"

    def make(self) -> None:
        self.folder.mkdir(parents=True)
        self.image.touch()
        os.truncate(self.image, 48 << 20)
        run("mkfs.ext4", "-q", "-m", "0", "-F", self.image)

    def mount(self) -> None:
        run("mount", "-o", "loop", self.image, self.folder)

    def fill(self) -> None:
        with self._ballast.open("wb") as file:
            for step_bytes in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step_bytes)

    def empty(self) -> None:
        self._ballast.unlink()

    def turn_read_only(self) -> None:
        """As ext4 does by itself after an error of the drive: writers find out at their next write."""
        run("mount", "-o", "remount,abort", self.folder)

    def vanish(self) -> None:
        run("umount", "-l", self.folder)

    def replace(self) -> None:
        """The drive comes back as another device, with what was on it."""
        copy = self.image.with_name("again.img")
        shutil.copy(self.image, copy)
        self.image = copy
        self.mount()


def run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk.img", tmp_path / "state")
    # As on a robot: what says how it is lies in memory, whichever disk is there.
    memory = tmp_path / "memory"
    memory.mkdir()
    try:
        disk.make()
        (disk.folder / "run").symlink_to(memory)
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here: {error}")
    (disk.folder / "run").symlink_to(memory)
    yield disk
    while disk.folder.is_mount():
        run("umount", "-l", disk.folder)


class Arm:
    """Control: ticks and hands over, whatever the disk does."""

    def __init__(self, state: Path, run_folder: Path, setup: Callable[[], None] | None = None) -> None:
        self.robot = FakeRobot("robot-1", height=240, width=320)
        self.state, self._run = state, run_folder
        config = RecorderConfig(state, self.robot.info, sync_period_s=0.05, retry_period_s=0.1)
        self.handle = RecorderHandle(config, setup)
        self.handle.start()

    def begin(self) -> str:
        info = EpisodeInfo(
            uuid.uuid4().hex, self.robot.info, None, "task", 100.0, "0", time.time_ns(), time.monotonic_ns()
        )
        self.handle.sink.begin(info)
        return info.episode_id

    def tick(self, period_s: float = 0.01) -> None:
        """One control tick: the arm moves, and its frame is taken."""
        seen = self.robot.observe()
        sent = self.robot.send(seen.joints + 1)
        assert self.handle.sink.add(Frame(seen, sent, sent, time.monotonic_ns(), time.time_ns(), 0, 0))
        time.sleep(period_s)

    def end(self) -> None:
        self.handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")

    def state_says(self) -> dict:
        path = self._run / "control.json"
        return json.loads(path.read_text()) if path.exists() else {"recording_error": None, "episode": None}

    def tick_until(self, condition: Callable[[], object]) -> int:
        """Until it holds; the test's own time limit ends what is in vain."""
        ticks = 0
        while not condition():
            self.tick()
            ticks += 1
        return ticks


@pytest.fixture
def arm(disk, tmp_path) -> Iterator[Arm]:
    arm = Arm(disk.folder, tmp_path / "memory")
    yield arm
    arm.handle.close()


def published(state: Path, episode_id: str) -> Path | None:
    spool = Spool(state / "spool")
    try:
        found = spool.get(episode_id)
    finally:
        spool.close()
    return found.path if found else None


def frames(path: Path | None) -> int:
    assert path
    with h5py.File(path) as file:
        return int(file.attrs["frames"])


def record_whole(arm: Arm, disk: Disk, ticks: int = 20) -> str:
    """An episode on a disk that works."""
    episode_id = arm.begin()
    for _ in range(ticks):
        arm.tick()
    arm.end()
    wait_until(lambda: published(disk.folder, episode_id))
    assert frames(published(disk.folder, episode_id)) == ticks
    return episode_id


def begin_recording(arm: Arm) -> str:
    """An episode of which more than ten ticks have reached the recorder."""
    episode_id = arm.begin()
    arm.tick_until(lambda: (arm.state_says()["episode"] or {}).get("ticks", 0) > 10)
    return episode_id


def assert_resumes(arm: Arm, disk: Disk, before: str, cut: str) -> None:
    """The next episode is whole, and so is the one before the fault; the one it cut is there as far as it got."""
    record_whole(arm, disk)
    wait_until(lambda: published(disk.folder, cut))
    assert frames(published(disk.folder, cut)) > 10
    assert frames(published(disk.folder, before)) == 20
    wait_until(lambda: arm.state_says()["recording_error"] is None)


def wait_until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.02)


def test_a_disk_that_stalls_costs_no_frame(tmp_path):
    """It does not answer for 300 ms of every 2 s, and four seconds are recorded."""
    arm = Arm(tmp_path / "state", tmp_path / "state" / "run", stall_disk)
    episode_id = arm.begin()
    for _ in range(120):
        arm.tick(period_s=1 / 30)
    arm.end()
    arm.handle.close()
    assert frames(published(arm.state, episode_id)) == 120


def test_a_full_disk_stops_no_tick_and_recording_resumes_when_there_is_room(arm, disk):
    before = record_whole(arm, disk)
    cut = begin_recording(arm)
    disk.fill()
    arm.tick_until(lambda: arm.state_says()["recording_error"])
    assert "No space left" in arm.state_says()["recording_error"]
    arm.end()
    arm.begin()  # on a disk that is still full
    for _ in range(20):
        arm.tick()
    arm.end()
    disk.empty()
    assert_resumes(arm, disk, before, cut)


def test_a_disk_that_turns_read_only_stops_no_tick_and_recording_resumes_on_its_successor(arm, disk):
    before = record_whole(arm, disk)
    cut = begin_recording(arm)
    disk.turn_read_only()
    arm.tick_until(lambda: arm.state_says()["recording_error"])
    arm.end()
    arm.begin()
    for _ in range(20):
        arm.tick()
    arm.end()
    disk.vanish()
    disk.replace()
    assert_resumes(arm, disk, before, cut)


def test_a_disk_that_vanishes_stops_no_tick_and_recording_resumes_when_it_is_back(arm, disk):
    before = record_whole(arm, disk)
    cut = begin_recording(arm)
    disk.vanish()
    for _ in range(20):
        arm.tick()
    arm.end()
    arm.begin()
    arm.tick_until(lambda: arm.state_says()["recording_error"])
    assert "No such file or directory" in arm.state_says()["recording_error"]
    arm.end()
    disk.mount()
    assert_resumes(arm, disk, before, cut)


def test_a_state_folder_that_is_removed_stops_no_tick(arm, disk, tmp_path):
    """Somebody deletes it, the folder of control.json included: ticks go on, and a folder made again is used again."""
    begin_recording(arm)
    for name in ("journal", "spool"):
        shutil.rmtree(disk.folder / name)
    (disk.folder / "run").unlink()
    for _ in range(150):
        arm.tick()
    arm.end()
    for name in ("journal", "spool"):
        (disk.folder / name).mkdir(exist_ok=True)
    (disk.folder / "run").symlink_to(tmp_path / "memory")
    record_whole(arm, disk)
