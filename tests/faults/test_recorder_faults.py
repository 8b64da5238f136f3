"""Real processes, really killed: what control handed over is on the disk, once, and readable."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import h5py
import numpy as np
import psutil
import pytest

from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.robots.fake import FakeRobot
from lefleet_agent.spool import Spool

pytestmark = pytest.mark.faults

STAND_IN = Path(__file__).with_name("control_stand_in.py")


class Control:
    """The stand-in, and what it said it handed over."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.episode_id = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, str(STAND_IN), str(state), self.episode_id],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._told: list[int] = []
        self.recorder = int(self._line().split()[1])
        self.recorder_process = psutil.Process(self.recorder)

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def run_for(self, ticks: int) -> list[int]:
        """Let it hand over so many more ticks; returns all that it told of until now.

        On a busy machine the ring may refuse one: control drops it then, and tells of none.
        """
        self._told += [int(self._line()) for _ in range(ticks)]
        return list(self._told)

    def end(self) -> None:
        """Whatever is left of it goes."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil knows a number that was given out again
            self.recorder_process.kill()


@pytest.fixture
def control(tmp_path) -> Iterator[Control]:
    control = Control(tmp_path / "state")
    yield control
    control.end()


def wait_until(condition: Callable[[], object]) -> None:
    """Until it holds; the test's own time limit ends a wait that is in vain."""
    while not condition():
        time.sleep(0.02)


def wait_for_end(pid: int) -> None:
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def the_episode(state: Path, episode_id: str) -> h5py.File:
    spool = Spool(state / "spool")
    wait_until(lambda: spool.get(episode_id))
    assert spool.stats().waiting_episodes == 1
    return h5py.File(spool.get(episode_id).path)


def assert_whole(file: h5py.File, told: list[int]) -> None:
    """Every tick that was handed over, once and in order, with pictures that decode."""
    ticks = np.rint(file["/action"][:, 0]).astype(int)
    np.testing.assert_allclose(file["/action"][:, 0], ticks, atol=1e-3)
    assert (np.diff(ticks) > 0).all()
    assert set(told) <= set(ticks.tolist())
    for camera in ("front", "wrist"):
        seen = file[f"/observations/image_seq/{camera}"][:]
        assert len(seen) == len(ticks) and (np.diff(seen) > 0).all()
        assert all(cv2.imdecode(row, 1) is not None for row in file[f"/observations/images/{camera}"])


def test_a_killed_control_process_loses_nothing_it_handed_over(control):
    told = control.run_for(120)
    control.process.kill()
    wait_for_end(control.recorder)
    with the_episode(control.state, control.episode_id) as file:
        assert_whole(file, told)
        assert bool(file.attrs["interrupted"])
        assert file.attrs["end_reason"] == "the control process died"
    assert not list((control.state / "journal").iterdir())


def test_a_killed_control_process_whose_recorder_hangs_loses_nothing_either(control):
    """The recorder stands still with a full ring when control dies; it wakes and finds what was committed."""
    control.run_for(30)
    os.kill(control.recorder, signal.SIGSTOP)
    told = control.run_for(20)
    control.process.kill()
    control.process.wait()
    os.kill(control.recorder, signal.SIGCONT)
    wait_for_end(control.recorder)
    with the_episode(control.state, control.episode_id) as file:
        assert_whole(file, told)


def test_a_signal_to_the_whole_group_loses_nothing(control):
    told = control.run_for(60)
    os.killpg(control.process.pid, signal.SIGINT)
    control.process.wait()
    wait_for_end(control.recorder)
    with the_episode(control.state, control.episode_id) as file:
        assert_whole(file, told)


def test_control_and_recorder_killed_at_once_lose_at_most_what_was_in_the_ring(control):
    told = control.run_for(120)
    os.kill(control.recorder, signal.SIGSTOP)  # so that neither can act on the other's end
    control.process.kill()
    os.kill(control.recorder, signal.SIGKILL)
    control.process.wait()
    wait_for_end(control.recorder)
    assert not list((control.state / "spool").glob("*.h5"))
    (control.state / "journal" / "unborn.mcap.part").touch()

    next_start = RecorderHandle(RecorderConfig(control.state, FakeRobot("robot-1").info))
    next_start.start()
    with the_episode(control.state, control.episode_id) as file:
        assert_whole(file, told[:-32])
        assert file.attrs["end_reason"].startswith("recovered after a crash")
    next_start.close()
    assert not list((control.state / "journal").iterdir())


def test_a_recorder_killed_while_control_goes_on_leaves_its_episode_to_the_next(control):
    told = control.run_for(120)
    os.kill(control.recorder, signal.SIGKILL)
    control.run_for(20)  # into a ring that nobody reads: control does not notice
    control.process.kill()
    control.process.wait()
    next_start = RecorderHandle(RecorderConfig(control.state, FakeRobot("robot-1").info))
    next_start.start()
    with the_episode(control.state, control.episode_id) as file:
        assert_whole(file, told[:-32])
    next_start.close()


def test_a_new_control_process_leaves_the_old_recorder_its_journal(control):
    """The supervisor starts control again at once, while the old recorder still drains and publishes."""
    told = control.run_for(60)
    os.kill(control.recorder, signal.SIGSTOP)
    control.process.kill()
    control.process.wait()
    second = Control(control.state)
    second.run_for(10)
    assert not list((control.state / "spool").glob("*.h5"))
    os.kill(control.recorder, signal.SIGCONT)
    with the_episode(control.state, control.episode_id) as file:
        assert_whole(file, told)
    second.end()
