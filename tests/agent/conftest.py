"""What tests of the agent share: a robot's description, frames that it could have made, journals of them; two emulated
arms, and the commands at them."""

import dataclasses
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from arm import Lab

from lefleet_agent.episode import CameraImage, CameraInfo, EpisodeInfo, Frame, Observation, PolicyInfo, RobotInfo
from lefleet_agent.recording.journal import JournalWriter, Notes, Picture
from lefleet_agent.recording.messages import EpisodeEnd
from lefleet_agent.recording.ring import Ring
from lefleet_agent.recording.sink import Sink
from lefleet_agent.robots.fake import FakeRobot, scene

HZ = 30.0


@pytest.fixture
def robot() -> RobotInfo:
    """Cameras of different sizes, and an environment."""
    cameras = {"front": CameraInfo(48, 64, 10.0, "usb-1"), "wrist": CameraInfo(32, 40, 30.0, "usb-2")}
    return dataclasses.replace(FakeRobot("robot-1").info, cameras=cameras, environment_size=3)


@pytest.fixture
def make_info(robot) -> Callable[..., EpisodeInfo]:
    def make(**changes) -> EpisodeInfo:
        policy = PolicyInfo("lab/act-cube", "c" * 40, "d" * 64, "act", {"config.json": "e" * 64})
        wall_ns, monotonic_ns = 1_700_000_000_000_000_000, 5_000_000_000
        info = EpisodeInfo(
            uuid.uuid4().hex, robot, policy, "Pick up the cube", HZ, "0.1.0", wall_ns, monotonic_ns, seed=7
        )
        return dataclasses.replace(info, **changes)

    return make


@pytest.fixture
def make_frames(robot) -> Callable[..., list[Frame]]:
    """The front camera gives a picture every third tick, the wrist camera at each."""

    def make(count: int, first: int = 0) -> list[Frame]:
        return [frame(robot, tick) for tick in range(first, first + count)]

    return make


def frame(robot: RobotInfo, tick: int) -> Frame:
    now_ns = 5_000_000_000 + round(tick * 1e9 / HZ)
    wall_ns = 1_700_000_000_000_000_000 + round(tick * 1e9 / HZ)
    images = {}
    for (name, camera), every in zip(robot.cameras.items(), (3, 1), strict=True):
        number = tick // every
        rgb = scene(camera.height, camera.width, number / 16)
        images[name] = CameraImage(number + 1, now_ns - 20_000_000, wall_ns - 20_000_000, rgb)
    joints = np.linspace(-90, 90, 6, dtype=np.float32) + np.float32(tick / 7)
    seen = Observation(joints, images, now_ns + 1000, np.array([tick, 0.5, -1], np.float32))
    return Frame(seen, joints + 2, joints + 1, now_ns, wall_ns, lateness_ns=1000 * tick, inference_ns=5 * (tick % 2))


@pytest.fixture
def ring(robot) -> Iterator[Ring]:
    """A ring whose both ends are in this process."""
    ring = Ring.create(robot, slots=8)
    yield ring
    ring.close()


@pytest.fixture
def sink(robot, ring) -> Iterator[Sink]:
    sink = Sink(robot)
    never_readable, writer = os.pipe()
    sink.attach(ring, never_readable)
    yield sink
    os.close(never_readable)
    os.close(writer)


@pytest.fixture
def notes() -> dict[Path, Notes]:
    """What the writer of each journal that `make_journal` made remembers of it."""
    return {}


@pytest.fixture
def make_journal(robot, ring, sink, make_info, make_frames, tmp_path, notes) -> Callable[..., Path]:
    """Write a journal through the sink and the ring, as the recorder would, and leave it unlocked."""
    from lefleet_agent.recording.recorder import encode

    def make(ticks: int = 10, end: EpisodeEnd | None = None, info: EpisodeInfo | None = None, frames=None) -> Path:
        folder = tmp_path / "journal"
        folder.mkdir(exist_ok=True)
        info = info or make_info()
        writer = JournalWriter.create(folder, info)
        sink.begin(info)
        assert ring.take() is not None
        ring.release()
        for each in frames or make_frames(ticks):
            assert sink.add(each)
            slot = ring.take()
            stamps = slot.tick["images"]
            pictures = [
                Picture(index, int(stamps[index]["seq"]), int(stamps[index]["taken_wall_ns"]), encode(image, 90))
                for index, image in enumerate(slot.images)
                if int(slot.header["new_images"]) >> index & 1
            ]
            writer.add(slot.tick.tobytes(), each.tick_wall_ns, pictures)
            ring.release()
        if end:
            writer.end(end)
        writer.sync()
        writer.journal.close()
        notes[writer.journal.path] = writer.notes
        return writer.journal.path

    return make


def port(lab: Lab) -> dict[str, str]:
    return {"port": str(lab.bus.link), "calibration_id": "so101", "calibration_dir": str(lab.folder)}


@pytest.fixture
def follower(tmp_path) -> Iterator[Lab]:
    with Lab.plugged(tmp_path / "follower") as lab:
        yield lab


@pytest.fixture
def leader(tmp_path) -> Iterator[Lab]:
    with Lab.plugged(tmp_path / "leader") as lab:
        yield lab


@pytest.fixture
def config(tmp_path, follower, leader) -> Path:
    path = tmp_path / "agent.yml"
    settings = {
        "robot_id": "robot-1",
        "server_url": "http://127.0.0.1:9",
        "state_dir": str(tmp_path / "state"),
        "pause_s": 0,
        "robot": {"type": "so101_follower", **port(follower)},
        "leader": {"type": "so101_leader", "join_s": 0.3, **port(leader)},
    }
    path.write_text(yaml.safe_dump(settings))
    (tmp_path / "state").mkdir()
    return path


type Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lefleet_agent(config, agent_command) -> Command:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*agent_command(*words), "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run
