"""From a journal to the episode file: HDF5, version 1 of docs/episode-format.md. The only module that knows h5py.

Every dataset is contiguous and allocated early, so its place in the file is known once it is created. HDF5 therefore
makes only the structure, in memory, and plain writes put it and the data on the disk: at those offsets, the same byte
ranges that a server serves pictures from. It costs no copy through HDF5, and a full disk is an ordinary error, where
HDF5 crashes the process (h5py 3.16: SIGSEGV some time after a write failed while a file was closed).
"""

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import EpisodeInfo, Outcome
from lefleet_agent.files import fsync_folder
from lefleet_agent.recording.journal import JournalReader, Picture
from lefleet_agent.recording.messages import EpisodeEnd
from lefleet_agent.recording.recorded import EpisodeFileError, RecordedEpisode
from lefleet_agent.recording.structure import Structure
from lefleet_agent.recording.ticks import decode

FORMAT = "1"
SUFFIX = ".h5"
_ROWS = 8  # of pictures that are written at once: less than a megabyte

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
    interventions: int


@dataclass(frozen=True, slots=True)
class _Contents:
    """A journal's reading: all but the pictures themselves, of which it says where they lie (250 bytes a tick)."""

    info: EpisodeInfo
    end: EpisodeEnd
    ticks: npt.NDArray[np.void]
    image_bytes: npt.NDArray[np.uint32]
    """Shape (ticks, cameras); 0 where a camera had no picture yet."""
    image_starts: npt.NDArray[np.int64]
    """Shape (ticks, cameras): the byte of the journal at which the picture begins."""


def build(journal: Path, part: Path, otherwise: EpisodeEnd | None = None) -> None:
    """Write the episode file, not yet published, and sync it. `otherwise` is the end of a journal that has none;
    without it such a journal is one that a crash cut off.

    Checks the whole journal, then copies its pictures. Raises NothingRecordedError, OSError; then `part` is gone.
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
            interventions=int(file.attrs.get("interventions", 0)),  # files of the first agents have none
        )


def read_episode(path: Path) -> RecordedEpisode:
    """What playing it again needs; no pictures. Raises EpisodeFileError."""
    try:
        with h5py.File(path, "r") as file:
            about, time = file.attrs, file["/time"]
            return RecordedEpisode(
                episode_id=str(about["episode_id"]),
                robot_id=str(about["robot_id"]),
                joint_names=tuple(map(str, about["joint_names"])),
                joint_units=tuple(map(str, about["joint_units"])),
                calibration_fingerprint=str(about["calibration_fingerprint"]),
                task=str(about["task"]),
                fps=float(about["fps"]),
                seed=int(about["seed"]) if "seed" in about else None,
                simulated=bool(about["sim"]),
                joints=file["/observations/qpos"][:],
                sent=file["/action"][:],
                requested=file["/action_requested"][:],
                deadlines_ns=time["monotonic_ns"][:] - time["lateness_ns"][:],
            )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise EpisodeFileError(f"{path}: no episode file as docs/episode-format.md has it: {error}") from error


def _scan(journal: Path, otherwise: EpisodeEnd | None) -> _Contents:
    info: EpisodeInfo | None = None
    end: EpisodeEnd | None = None
    raw = bytearray()
    seen: list[list[tuple[int, int]]] = []
    reader = JournalReader(journal)
    current: list[tuple[int, int]] = []
    for entry in reader:
        if isinstance(entry, EpisodeInfo):
            info = entry
            current = [(0, 0)] * len(info.robot.cameras)
        elif isinstance(entry, Picture):
            current[entry.camera] = (len(entry.jpeg), entry.start_byte)
        elif isinstance(entry, EpisodeEnd):
            end = entry
        else:
            raw += entry
            seen.append(list(current))
    if info is None or not seen:
        why = reader.damage or "the episode ended before its first"
        raise NothingRecordedError(f"{journal.name} holds no tick: {why}", damaged=reader.damage is not None)
    ticks = decode(bytes(raw), reader.tick_layout, info.robot)
    end = end or otherwise or _cut_off(int(ticks[-1]["dropped"]), reader.damage)
    places = np.array(seen, np.int64).reshape(len(seen), -1, 2)
    image_bytes = places[..., 0].astype(np.uint32) * ticks["images"]["seen"]
    return _Contents(info, end, ticks, image_bytes, places[..., 1])


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


def _create(contents: _Contents) -> tuple[Structure, dict[str, int]]:
    """The file without the data, and the byte at which each dataset begins."""
    shapes = {name: (column.dtype, column.shape) for name, column in _columns(contents).items()}
    rows = len(contents.ticks)
    for index, camera in enumerate(contents.info.robot.cameras):
        width = max(1, int(contents.image_bytes[:, index].max()))
        shapes[f"/observations/images/{camera}"] = (np.dtype("u1"), (rows, width))
    structure = Structure()
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
        "interventions": _stretches(ticks["intervention"]),
        "extra": json.dumps(info.extra),
    }
    if info.seed is not None:
        attributes["seed"] = info.seed
    return attributes


def _strings(values: Iterable[str]) -> Array:
    return np.array(list(values), h5py.string_dtype())


def _stretches(marked: npt.NDArray[np.generic]) -> int:
    """How many unbroken runs of marked ticks there are."""
    return int((np.diff(marked.astype(np.int8), prepend=0) == 1).sum())


def _hz_held(ticks: npt.NDArray[np.void]) -> float:
    """Control ticks a second from the first recorded to the last, the dropped ones counted; 0 for a single tick."""
    first, last = ticks[0], ticks[-1]
    seconds = (int(last["tick_monotonic_ns"]) - int(first["tick_monotonic_ns"])) * 1e-9
    return (int(last["number"]) - int(first["number"])) / seconds if seconds > 0 else 0.0


def _write(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _write_pictures(fd: int, journal: Path, contents: _Contents, places: dict[str, int]) -> None:
    """Row t of a camera: the picture seen at tick t, the rest of the row zero. A few rows at a time."""
    with journal.open("rb", buffering=0) as source:
        for index, camera in enumerate(contents.info.robot.cameras):
            lengths, starts = contents.image_bytes[:, index].tolist(), contents.image_starts[:, index].tolist()
            width = max(1, *lengths)
            rows = memoryview(bytearray(_ROWS * width))
            for first in range(0, len(lengths), _ROWS):
                part = list(zip(lengths[first : first + _ROWS], starts[first : first + _ROWS], strict=True))
                for row, (length, start) in enumerate(part):
                    _read(source.fileno(), rows[row * width :][:length], start)
                    rows[row * width + length : (row + 1) * width] = bytes(width - length)
                place = places[f"/observations/images/{camera}"] + first * width
                _write(fd, rows[: len(part) * width], place)


def _read(fd: int, into: memoryview, offset: int) -> None:
    if os.preadv(fd, [into], offset) != len(into):
        raise OSError(errno.EIO, "the journal ends before a picture that was read from it")
