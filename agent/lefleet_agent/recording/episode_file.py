"""From a journal to the episode file: HDF5, version 1 of docs/episode-format.md. The only module that knows h5py.

Every dataset is contiguous and allocated early, so its place in the file is known once it is created. HDF5 therefore
makes only the structure, in memory, and plain writes put it and the data on the disk: at those offsets, the same byte
ranges that a server serves pictures from. It costs no copy through HDF5, and a full disk is an ordinary error, where
HDF5 crashes the process (h5py 3.16: SIGSEGV some time after a write failed while a file was closed).
"""

import io
import json
import os
from collections.abc import Buffer, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import EpisodeInfo, Outcome
from lefleet_agent.files import fsync_folder
from lefleet_agent.recording.journal import JournalReader, Picture
from lefleet_agent.recording.messages import EpisodeEnd
from lefleet_agent.recording.ticks import decode

FORMAT = "1"
SUFFIX = ".h5"

type Array = npt.NDArray[np.generic]
type Attribute = str | bool | int | float | Array


class NothingRecordedError(Exception):
    """The journal holds no tick: there is no episode to make."""

    def __init__(self, message: str, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged
        """Whether it holds bytes that cannot be read."""


@dataclass(frozen=True, slots=True)
class EpisodeSummary:
    """What the spool wants to know of an episode file."""

    outcome: Outcome
    interrupted: bool
    ended_wall_ns: int
    frames: int


@dataclass(frozen=True, slots=True)
class _Contents:
    """A journal's first reading: all but the pictures themselves (250 bytes a tick)."""

    info: EpisodeInfo
    end: EpisodeEnd
    ticks: npt.NDArray[np.void]
    image_bytes: npt.NDArray[np.uint32]
    """Shape (ticks, cameras); 0 where a camera had no picture yet."""


def build(journal: Path, part: Path, otherwise: EpisodeEnd | None = None) -> None:
    """Write the episode file, not yet published, and sync it. `otherwise` is the end of a journal that has none;
    without it such a journal is one that a crash cut off.

    Reads the journal twice and holds one picture a camera. Raises NothingRecordedError, OSError; then `part` is gone.
    """
    contents = _scan(journal, otherwise)
    structure, places = _create(contents)
    try:
        with part.open("w+b", buffering=0) as file:
            fd = file.fileno()
            # A disk too full is found here, not in the middle.
            os.posix_fallocate(fd, 0, structure.size)
            for offset, data in structure.writes:
                _write(fd, data, offset)
            for name, column in _columns(contents).items():
                _write(fd, np.ascontiguousarray(column).tobytes(), places[name])
            _write_pictures(fd, journal, contents, places)
            os.fsync(fd)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def publish(part: Path, final: Path) -> None:
    """Give the finished file its name, durably. Raises OSError."""
    part.rename(final)
    fsync_folder(final.parent)


def read_summary(path: Path) -> EpisodeSummary:
    """Raises OSError or KeyError when the file is no episode."""
    with h5py.File(path, "r") as file:
        return EpisodeSummary(
            outcome=Outcome(str(file.attrs["outcome"])),
            interrupted=bool(file.attrs["interrupted"]),
            ended_wall_ns=int(file.attrs["ended_wall_ns"]),
            frames=int(file.attrs["frames"]),
        )


def _scan(journal: Path, otherwise: EpisodeEnd | None) -> _Contents:
    info: EpisodeInfo | None = None
    end: EpisodeEnd | None = None
    raw = bytearray()
    sizes: list[list[int]] = []
    reader = JournalReader(journal)
    current: list[int] = []
    for entry in reader:
        if isinstance(entry, EpisodeInfo):
            info = entry
            current = [0] * len(info.robot.cameras)
        elif isinstance(entry, Picture):
            current[entry.camera] = len(entry.jpeg)
        elif isinstance(entry, EpisodeEnd):
            end = entry
        else:
            raw += entry
            sizes.append(list(current))
    if info is None or not sizes:
        why = reader.damage or "the episode ended before its first"
        raise NothingRecordedError(f"{journal.name} holds no tick: {why}", damaged=reader.damage is not None)
    ticks = decode(bytes(raw), reader.tick_layout, info.robot)
    end = end or otherwise or _cut_off(int(ticks[-1]["dropped"]), reader.damage)
    image_bytes = np.array(sizes, np.uint32).reshape(len(sizes), -1) * ticks["images"]["seen"]
    return _Contents(info, end, ticks, image_bytes)


def _cut_off(dropped: int, damage: str | None) -> EpisodeEnd:
    detail = f" (journal {damage})" if damage else ""
    return EpisodeEnd(Outcome.UNKNOWN, True, f"recovered after a crash{detail}", frames_dropped=dropped)


def _columns(contents: _Contents) -> dict[str, Array]:
    """Every dataset but the pictures, by path."""
    ticks, images = contents.ticks, contents.ticks["images"]
    columns: dict[str, Array] = {
        "/action": ticks["sent"],
        "/action_requested": ticks["requested"],
        "/observations/qpos": ticks["joints"],
        "/observations/qvel": _velocity(ticks),
        "/held": ticks["held"],
        "/intervention": ticks["intervention"],
        "/time/inference_ns": ticks["inference_ns"],
        "/time/lateness_ns": ticks["lateness_ns"],
        "/time/monotonic_ns": ticks["tick_monotonic_ns"],
        "/time/observed_ns": ticks["observed_ns"],
        "/time/preprocess_ns": ticks["preprocess_ns"],
        "/time/read_ns": ticks["read_ns"],
        "/time/read_monotonic_ns": ticks["read_monotonic_ns"],
        "/time/send_ns": ticks["send_ns"],
        "/time/wall_ns": ticks["tick_wall_ns"],
    }
    if contents.info.robot.environment_size:
        columns["/observations/environment"] = ticks["environment"]
    if contents.info.robot.cameras:
        columns["/compress_len"] = contents.image_bytes.T.astype("<f4")
    for index, camera in enumerate(contents.info.robot.cameras):
        columns[f"/observations/image_bytes/{camera}"] = contents.image_bytes[:, index].astype("<u4")
        columns[f"/observations/image_seq/{camera}"] = images["seq"][:, index]
        columns[f"/observations/image_monotonic_ns/{camera}"] = images["taken_monotonic_ns"][:, index]
        columns[f"/observations/image_wall_ns/{camera}"] = images["taken_wall_ns"][:, index]
    return columns


def _velocity(ticks: npt.NDArray[np.void]) -> Array:
    """Difference quotient of the joints to the tick before, a second; no sensor. ALOHA's readers ask for it."""
    velocity = np.zeros(ticks["joints"].shape, "f8")
    seconds = np.diff(ticks["read_monotonic_ns"])[:, np.newaxis] * 1e-9
    with np.errstate(all="ignore"):  # a robot that reads inf or NaN is recorded as it is
        moved = np.diff(ticks["joints"].astype("f8"), axis=0)
        np.divide(moved, seconds, out=velocity[1:], where=seconds > 0)
        return velocity.astype("<f4")


class _Structure(io.RawIOBase):
    """The file that HDF5 believes it writes: everything but the data, as it came."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, bytes]] = []
        self.size = 0
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self.size if whence == os.SEEK_END else 0)
        return self._position

    def write(self, data: Buffer) -> int:
        self.writes.append((self._position, bytes(data)))
        self._position += len(self.writes[-1][1])
        self.size = max(self.size, self._position)
        return len(self.writes[-1][1])

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def readinto(self, buffer: Buffer) -> int:
        """HDF5 may read what it wrote: the writes again, in their order."""
        view, start = memoryview(buffer).cast("B"), self._position
        view[:] = bytes(len(view))
        for offset, data in self.writes:
            first, last = max(offset, start), min(offset + len(data), start + len(view))
            if first < last:
                view[first - start : last - start] = data[first - offset : last - offset]
        self._position += len(view)
        return len(view)


def _create(contents: _Contents) -> tuple[_Structure, dict[str, int]]:
    """The file without the data, and the byte at which each dataset begins."""
    shapes = {name: (column.dtype, column.shape) for name, column in _columns(contents).items()}
    rows = len(contents.ticks)
    for index, camera in enumerate(contents.info.robot.cameras):
        width = max(1, int(contents.image_bytes[:, index].max()))
        shapes[f"/observations/images/{camera}"] = (np.dtype("u1"), (rows, width))
    structure = _Structure()
    with h5py.File(structure, "w") as file:
        for name, value in _attributes(contents).items():
            file.attrs[name] = value
        places = {name: _dataset(file, name, dtype, shape) for name, (dtype, shape) in sorted(shapes.items())}
    return structure, places


def _dataset(file: h5py.File, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> int:
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    link = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    link.set_create_intermediate_group(True)
    kind = h5py.h5t.py_create(dtype)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), create, link)
    return int(dataset.get_offset())


def _attributes(contents: _Contents) -> dict[str, Attribute]:
    info, end, ticks = contents.info, contents.end, contents.ticks
    robot, policy = info.robot, info.policy
    attributes: dict[str, Attribute] = {
        "sim": robot.simulated,
        "compress": True,
        "lefleet_format": FORMAT,
        "episode_id": info.episode_id,
        "robot_id": robot.robot_id,
        "robot_type": robot.type,
        "joint_names": _strings(robot.joint_names),
        "joint_units": _strings(robot.joint_units),
        "cameras": _strings(robot.cameras),
        "camera_fingerprints": json.dumps({name: camera.fingerprint for name, camera in robot.cameras.items()}),
        "calibration_fingerprint": robot.calibration_fingerprint,
        "task": info.task,
        "policy_repo": policy.repo if policy else "",
        "policy_commit": policy.commit if policy else "",
        "policy_digest": policy.digest if policy else "",
        "policy_type": policy.type if policy else "",
        "policy_files": json.dumps(policy.files if policy else {}),
        "agent_version": info.agent_version,
        "fps": float(info.fps),
        "control_hz_held": _hz_held(ticks),
        "started_wall_ns": info.started_wall_ns,
        "ended_wall_ns": end.ended_wall_ns or int(ticks[-1]["tick_wall_ns"]),
        "outcome": str(end.outcome),
        "interrupted": end.interrupted,
        "end_reason": end.reason,
        "frames": len(ticks),
        "frames_dropped": end.frames_dropped,
        "extra": json.dumps(info.extra),
    }
    if info.seed is not None:
        attributes["seed"] = info.seed
    return attributes


def _strings(values: Iterable[str]) -> Array:
    return np.array(list(values), h5py.string_dtype())


def _hz_held(ticks: npt.NDArray[np.void]) -> float:
    """Control ticks a second from the first recorded to the last, the dropped ones counted; 0 for a single tick."""
    first, last = ticks[0], ticks[-1]
    seconds = (int(last["tick_monotonic_ns"]) - int(first["tick_monotonic_ns"])) * 1e-9
    return (int(last["number"]) - int(first["number"])) / seconds if seconds > 0 else 0.0


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _write_pictures(fd: int, journal: Path, contents: _Contents, places: dict[str, int]) -> None:
    """Row t of a camera: the picture seen at tick t. What the row has left stays zero, as allocated."""
    cameras = list(contents.info.robot.cameras)
    widths = [max(1, int(column.max())) for column in contents.image_bytes.T]
    starts = [places[f"/observations/images/{camera}"] for camera in cameras]
    for tick, pictures in enumerate(_pictures(journal, len(cameras))):
        for camera, jpeg in enumerate(pictures):
            if contents.image_bytes[tick, camera]:
                _write(fd, jpeg, starts[camera] + tick * widths[camera])


def _pictures(journal: Path, cameras: int) -> Iterator[list[bytes]]:
    """For each tick the newest picture of each camera."""
    current = [b""] * cameras
    for entry in JournalReader(journal):
        if isinstance(entry, Picture):
            current[entry.camera] = entry.jpeg
        elif isinstance(entry, bytes):
            yield current
