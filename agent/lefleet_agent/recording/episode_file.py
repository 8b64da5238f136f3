"""From a journal to the episode file: HDF5, version 1 of docs/episode-format.md. The only module that knows h5py.

Every dataset is contiguous and allocated early, so its place in the file is known once it is created. HDF5 therefore
makes only the structure, in memory, and plain writes put it and the data on the disk: at those offsets, the same byte
ranges that a server serves pictures from. It costs no copy through HDF5, and a full disk is an ordinary error, where
HDF5 crashes the process (h5py 3.16: SIGSEGV some time after a write failed while a file was closed).
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from lefleet_agent.episode import Outcome
from lefleet_agent.files import fsync_folder
from lefleet_agent.recording.contents import Array, Contents, columns, hz_held, scanned, stretches
from lefleet_agent.recording.messages import EpisodeEnd
from lefleet_agent.recording.recorded import EpisodeFileError, RecordedEpisode
from lefleet_agent.recording.structure import HashedWriter, Structure

FORMAT = "1"
SUFFIX = ".h5"
_ROWS = 4  # of pictures that are written at once: what is read is hashed and written while the cache has it

type Attribute = str | bool | int | float | Array


@dataclass(frozen=True, slots=True)
class EpisodeSummary:
    """What the spool wants to know of an episode file."""

    outcome: Outcome
    interrupted: bool
    ended_wall_ns: int
    frames: int
    interventions: int


def build(journal: Path, part: Path, otherwise: EpisodeEnd | None = None) -> str:
    """Write the episode file of this journal, not yet published, and sync it; returns its SHA-256, in hexadecimal.
    `otherwise` as in `contents.scanned`, which checks the whole journal first.

    Raises NothingRecordedError, OSError; then `part` is gone.
    """
    return write(journal, part, scanned(journal, otherwise))


def write(journal: Path, part: Path, contents: Contents) -> str:
    """As `build`, of contents that are known. The file is written from its first byte to its last, and hashed on the
    way: neither it nor the journal's checksums are read again."""
    structure, places = _create(contents)
    try:
        with part.open("w+b", buffering=0) as file, journal.open("rb", buffering=0) as source:
            # A disk too full is found here, not in the middle.
            os.posix_fallocate(file.fileno(), 0, structure.size)
            writer = HashedWriter(file.fileno())
            data = _columns(contents) | _pictures(source.fileno(), contents)
            for name, place in sorted(places.items(), key=lambda item: item[1]):
                writer.write(structure.between(writer.size, place))
                for piece in data[name]:
                    writer.write(piece)
            writer.write(structure.between(writer.size, structure.size))
            os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return writer.sha256


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


def _create(contents: Contents) -> tuple[Structure, dict[str, int]]:
    """The file without the data, and the byte at which each dataset begins."""
    shapes = {name: (column.dtype, column.shape) for name, column in columns(contents).items()}
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
    create.set_obj_track_times(False)  # one journal makes one file, byte for byte, whenever it is written
    link = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    link.set_create_intermediate_group(True)
    kind = h5py.h5t.py_create(dtype)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), create, link)
    return int(dataset.get_offset())


def _attributes(contents: Contents) -> dict[str, Attribute]:
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
        "control_hz_held": hz_held(ticks),
        "started_wall_ns": info.started_wall_ns,
        "ended_wall_ns": end.ended_wall_ns or int(ticks[-1]["tick_wall_ns"]),
        "outcome": str(end.outcome),
        "interrupted": end.interrupted,
        "end_reason": end.reason,
        "frames": len(ticks),
        "frames_dropped": end.frames_dropped,
        "interventions": stretches(ticks["intervention"]),
        "extra": json.dumps(info.extra),
    }
    if info.seed is not None:
        attributes["seed"] = info.seed
    return attributes


def _strings(values: Iterable[str]) -> Array:
    return np.array(list(values), h5py.string_dtype())


def _columns(contents: Contents) -> dict[str, Iterator[bytes]]:
    return {name: iter([np.ascontiguousarray(column).tobytes()]) for name, column in columns(contents).items()}


def _pictures(journal: int, contents: Contents) -> dict[str, Iterator[memoryview]]:
    return {
        f"/observations/images/{camera}": _rows(
            journal, contents.image_bytes[:, index].tolist(), contents.image_starts[:, index].tolist()
        )
        for index, camera in enumerate(contents.info.robot.cameras)
    }


def _rows(journal: int, lengths: list[int], starts: list[int]) -> Iterator[memoryview]:
    """Row t of a camera: the picture seen at tick t, the rest of the row zero. A few rows at a time."""
    width = max(1, *lengths)
    rows = memoryview(bytearray(_ROWS * width))
    for first in range(0, len(lengths), _ROWS):
        part = list(zip(lengths[first : first + _ROWS], starts[first : first + _ROWS], strict=True))
        for row, (length, start) in enumerate(part):
            _read(journal, rows[row * width :][:length], start)
            rows[row * width + length : (row + 1) * width] = bytes(width - length)
        yield rows[: len(part) * width]


def _read(fd: int, into: memoryview, offset: int) -> None:
    if os.preadv(fd, [into], offset) != len(into):
        raise OSError(errno.EIO, "the journal ends before a picture that was read from it")
