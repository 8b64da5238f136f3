"""The robot and the episodes that the benchmarks record, and whole episode files to upload."""

import hashlib
import shutil
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from processes import wait_until
from scene import HEIGHT, WIDTH, film, swing

from lefleet_agent import __version__
from lefleet_agent.episode import CameraImage, EpisodeInfo, Frame, Observation, Outcome, RobotInfo
from lefleet_agent.policies.scripted import ScriptedPolicy
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.robots.fake import FakeRobot
from lefleet_agent.spool import Spool


@dataclass(frozen=True, slots=True)
class EpisodeFile:
    path: Path
    episode_id: str
    sha256: str
    bytes: int


def fake_robot(robot_id: str = "bench") -> FakeRobot:
    return FakeRobot(robot_id, height=HEIGHT, width=WIDTH)


def robot_info(robot_id: str = "bench") -> RobotInfo:
    return fake_robot(robot_id).info


def episode_info(robot: RobotInfo | None = None, fps: float = 30.0) -> EpisodeInfo:
    return EpisodeInfo(
        episode_id=uuid.uuid4().hex,
        robot=robot or robot_info(),
        policy=ScriptedPolicy().traits.info,
        task="reach over the table",
        fps=fps,
        agent_version=__version__,
        started_wall_ns=time.time_ns(),
        started_monotonic_ns=time.monotonic_ns(),
    )


def record(state_dir: Path, frames: int, robot_id: str) -> EpisodeFile:
    """One episode by the agent's own recorder, as fast as it takes the frames."""
    robot = robot_info(robot_id)
    info = episode_info(robot)
    pictures = film(min(frames, 48))
    spool = Spool(state_dir / "spool")
    handle = RecorderHandle(RecorderConfig(state_dir, robot))
    handle.start()
    try:
        handle.sink.begin(info)
        joints = np.zeros(6, np.float32)
        for tick in range(frames):
            now_ns, wall_ns = time.monotonic_ns(), info.started_wall_ns + tick * 33_333_333
            place = swing(tick, len(pictures["front"]))
            images = {name: CameraImage(tick + 1, now_ns, wall_ns, shots[place]) for name, shots in pictures.items()}
            frame = Frame(Observation(joints, images, now_ns), joints, joints, now_ns, wall_ns, 0, 0)
            wait_until(partial(handle.sink.add, frame), "room in the ring", timeout_s=30, every_s=0.005)
        handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="recorded for a benchmark")
    finally:
        handle.close()
    episode = spool.get(info.episode_id)
    spool.close()
    assert episode is not None, f"{info.episode_id} was recorded and closed, so it must be in the spool"
    return EpisodeFile(episode.path, info.episode_id, episode.sha256, episode.bytes)


def another(file: EpisodeFile, folder: Path, robot_id: str) -> EpisodeFile:
    """The same episode under another id, of another robot: other bytes, as valid as the first."""
    episode_id = uuid.uuid4().hex
    path = folder / f"{episode_id}.h5"
    shutil.copyfile(file.path, path)
    with h5py.File(path, "r+") as episode:
        episode.attrs["episode_id"] = episode_id
        episode.attrs["robot_id"] = robot_id
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return EpisodeFile(path, episode_id, digest, path.stat().st_size)
