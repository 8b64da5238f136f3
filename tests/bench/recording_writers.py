"""The writers that are compared: JPEG encoding alone, LeFleet's recorder, LeRobotDataset in its ways of recording."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from episodes import episode_info, robot_info
from processes import wait_until

from lefleet_agent.episode import CameraImage, Floats, Frame, Observation, Outcome, Pixels
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.spool import Spool

SETTLE_S = 0.6
"""Long enough for whatever is still queued at the last frame of a writer that keeps up."""


class Writer(Protocol):
    """One episode of one way to record. `pid` heads the tree of processes whose time counts."""

    pid: int

    def begin(self) -> None: ...

    def frame(self, pictures: dict[str, Pixels], joints: Floats) -> Any:
        """What `add` takes; made outside the measured wait."""

    def add(self, frame: Any) -> None: ...

    def settle(self) -> None:
        """Let the writer catch up with what it was given."""

    def end(self) -> None: ...

    def wait_for_file(self) -> int:
        """Until the episode is whole on the disk; returns its bytes."""

    def lost(self) -> int: ...


@contextmanager
def open_writer(name: str, folder: Path) -> Iterator[Writer]:
    if name == "jpeg":
        yield JpegOnly()
    elif name == "lefleet":
        with lefleet(folder) as writer:
            yield writer
    else:
        yield LeRobot(name, folder)


class JpegOnly:
    """The floor: both pictures to JPEG in the calling thread, thrown away."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._bytes = 0
        cv2.setNumThreads(1)

    def begin(self) -> None: ...

    def frame(self, pictures: dict[str, Pixels], joints: Floats) -> dict[str, Pixels]:
        del joints
        return pictures

    def add(self, frame: dict[str, Pixels]) -> None:
        for rgb in frame.values():
            _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 90))
            self._bytes += jpeg.size

    def settle(self) -> None: ...

    def end(self) -> None: ...

    def wait_for_file(self) -> int:
        return self._bytes

    def lost(self) -> int:
        return 0


@contextmanager
def lefleet(folder: Path) -> Iterator["LeFleet"]:
    handle = RecorderHandle(RecorderConfig(folder, robot_info()))
    handle.start()
    try:
        time.sleep(SETTLE_S)  # looking for what a crash left behind is the start's cost, not a frame's
        yield LeFleet(handle, folder)
    finally:
        handle.close()


class LeFleet:
    """As on a robot: the calling thread fills the ring, the recorder's process does the rest."""

    def __init__(self, handle: RecorderHandle, folder: Path) -> None:
        self.pid = os.getpid()
        self._handle = handle
        self._spool = Spool(folder / "spool")
        self._info = episode_info()
        self._seq = 0

    def begin(self) -> None:
        self._handle.sink.begin(self._info)

    def frame(self, pictures: dict[str, Pixels], joints: Floats) -> Frame:
        self._seq += 1
        now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        images = {name: CameraImage(self._seq, now_ns, wall_ns, rgb) for name, rgb in pictures.items()}
        return Frame(Observation(joints, images, now_ns), joints, joints, now_ns, wall_ns, 0, 0)

    def add(self, frame: Frame) -> None:
        self._handle.sink.add(frame)

    def settle(self) -> None:
        time.sleep(SETTLE_S)

    def end(self) -> None:
        self._handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="the film is over")

    def wait_for_file(self) -> int:
        """Until it is in the spool and its journal, the last thing to go, is gone."""
        journals = self._spool.folder.parent / "journal"
        wait_until(
            lambda: self._spool.get(self._info.episode_id) is not None and not any(journals.glob("*.mcap")),
            "the episode in the spool",
            timeout_s=120,
        )
        episode = self._spool.get(self._info.episode_id)
        self._spool.close()
        assert episode is not None, "it was there"
        return episode.bytes

    def lost(self) -> int:
        return self._handle.sink.dropped_total


class LeRobot:
    """LeRobotDataset as `lerobot-record` uses it: `add_frame` in the control loop, `save_episode` at the end."""

    def __init__(self, mode: str, folder: Path) -> None:
        from lerobot.configs import RGBEncoderConfig
        from lerobot.datasets import LeRobotDataset

        self.pid = os.getpid()
        self._root = folder / "dataset"
        vector = {"dtype": "float32", "shape": (6,), "names": list(robot_info().joint_names)}
        picture = {"dtype": "video", "shape": (480, 640, 3), "names": ["height", "width", "channels"]}
        cameras = {f"observation.images.{name}": picture for name in robot_info().cameras}
        self._dataset: Any = LeRobotDataset.create(
            "bench/film",
            fps=30,
            root=self._root,
            features={"observation.state": vector, "action": vector} | cameras,
            rgb_encoder=RGBEncoderConfig(vcodec="h264", preset="ultrafast") if mode == "h264" else None,
            streaming_encoding=mode != "png",
            image_writer_threads=8 if mode == "png" else 0,
        )

    def begin(self) -> None: ...

    def frame(self, pictures: dict[str, Pixels], joints: Floats) -> dict[str, Any]:
        images = {f"observation.images.{name}": rgb for name, rgb in pictures.items()}
        return images | {"observation.state": joints, "action": np.copy(joints), "task": "film"}

    def add(self, frame: dict[str, Any]) -> None:
        self._dataset.add_frame(frame)

    def settle(self) -> None:
        """Its encoder may lag by its whole queue (a second of frames)."""
        time.sleep(SETTLE_S)

    def end(self) -> None:
        # It forgets its count of dropped pictures with the episode and has no public way to ask.
        encoder = self._dataset.writer._streaming_encoder
        self._lost = max(encoder._dropped_frames.values(), default=0) if encoder else 0
        self._dataset.save_episode()

    def wait_for_file(self) -> int:
        self._dataset.finalize()
        return sum(path.stat().st_size for path in self._root.rglob("*") if path.is_file())

    def lost(self) -> int:
        return self._lost
