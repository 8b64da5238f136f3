"""The only module that reads HDF5: checks an episode file (docs/episode-format.md), says what is in it and where.

`python -m lefleet_server.episodes.reader FILE` prints the findings as one JSON object. It runs as its own process with
limits on memory and time, because a crafted HDF5 file can make the library crash or loop.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lefleet_server.episodes.attributes import FileError, plain
from lefleet_server.episodes.limits import MOST_CPU_S, confine, is_machines_fault, why_not

FORMAT = "1"
_OUTCOMES = ("success", "failure", "unknown")

_TIMES = ("monotonic_ns", "wall_ns", "lateness_ns", "inference_ns")
_IMAGE_COLUMNS = {"image_bytes": "u4", "image_seq": "u4", "image_monotonic_ns": "i8", "image_wall_ns": "i8"}
_MARKS = ("held", "intervention")


def inspect(path: Path) -> dict[str, Any]:
    """Everything the server keeps about the file: {"attributes": {...}, "image_index": {...}, "duration_s": ...}.

    The duration is by the monotonic clock: an NTP step must not stretch an episode.

    Raises FileError, or whatever HDF5 raises for a file that is none.
    """
    with h5py.File(path, "r", locking=False) as file:
        attributes = plain(file.attrs)
        if attributes.get("lefleet_format") != FORMAT:
            raise FileError("lefleet_format", f"is {attributes.get('lefleet_format')!r}, this server reads {FORMAT!r}")
        ticks = _check_signals(file, attributes)
        times = file["time/monotonic_ns"]
        duration_s = (int(times[-1]) - int(times[0])) / 1e9
        index = {camera: _check_images(file, path, camera, ticks) for camera in attributes["cameras"]}
    return {"attributes": attributes | {"frames": ticks}, "image_index": index, "duration_s": duration_s}


def signals(path: Path) -> dict[str, Any]:
    """The numbers of an episode by column, for plots; pictures left out. Values that are not finite become None."""
    with h5py.File(path, "r", locking=False) as file:
        ticks = np.asarray(file["time/monotonic_ns"])
        cameras = _strings(file.attrs["cameras"])
        return {
            "frames": len(ticks),
            "joint_names": _strings(file.attrs["joint_names"]),
            "joint_units": _strings(file.attrs["joint_units"]),
            "time_s": _column((ticks - ticks[:1]) / 1e9, 6),
            "qpos": _columns(file["observations/qpos"]),
            "action": _columns(file["action"]),
            "action_requested": _columns(file["action_requested"]),
            "lateness_ms": _column(np.asarray(file["time/lateness_ns"]) / 1e6),
            "inference_ms": _column(np.asarray(file["time/inference_ns"]) / 1e6),
            "held": _bits(file, "held", len(ticks)),
            "intervention": _bits(file, "intervention", len(ticks)),
            "image_seq": {c: file[f"observations/image_seq/{c}"][:].tolist() for c in cameras},
            "image_age_ms": {
                c: _column((ticks - file[f"observations/image_monotonic_ns/{c}"][:]) / 1e6) for c in cameras
            },
        }


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera's pictures: where they lie, and how long each is, by tick."""

    place: dict[str, int]
    lengths: npt.NDArray[np.int64]
    """Bytes of each JPEG; 0 where none had come yet."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An episode's numbers as arrays, time along the first axis."""

    fps: float
    frames_dropped: int
    joints: list[str]
    units: list[str]
    monotonic_ns: npt.NDArray[np.int64]
    qpos: npt.NDArray[np.float64]
    action: npt.NDArray[np.float64]
    requested: npt.NDArray[np.float64]
    cameras: dict[str, Camera]


def recording(path: Path) -> Recording:
    """The numbers of a file that `inspect` accepts, which it does first; raises as that does."""
    return numbers(*contents(path))


def numbers(facts: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> Recording:
    """What analysis and exports count with, of what `contents` found."""
    said = facts["attributes"]
    cameras = {
        camera: Camera(facts["image_index"][camera], columns[f"observations/image_bytes/{camera}"].astype(np.int64))
        for camera in said["cameras"]
    }
    return Recording(
        fps=said["fps"],
        frames_dropped=said["frames_dropped"],
        joints=said["joint_names"],
        units=said["joint_units"],
        monotonic_ns=columns["time/monotonic_ns"],
        qpos=columns["observations/qpos"].astype(np.float64),
        action=columns["action"].astype(np.float64),
        requested=columns["action_requested"].astype(np.float64),
        cameras=cameras,
    )


def contents(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """What `inspect` says, and by its path each dataset with a row or number a tick, the pictures' own left out.

    Raises as `inspect` does. Files of the first agents have no `held` and `intervention`.
    """
    facts = inspect(path)
    ticks, cameras = facts["attributes"]["frames"], facts["attributes"]["cameras"]
    with h5py.File(path, "r", locking=False) as file:
        marks = [name for name in _MARKS if _node(file, name) is not None]
        for name in marks:
            _dataset(file, name, "u1", (ticks,))
        names = ["observations/qpos", "action", "action_requested", *(f"time/{name}" for name in _TIMES), *marks]
        names += [f"observations/{column}/{camera}" for column in _IMAGE_COLUMNS for camera in cameras]
        return facts, {name: file[name][:] for name in names}


def _check_signals(file: h5py.File, attributes: Mapping[str, Any]) -> int:
    """The number of ticks, the same in every dataset."""
    for name in ("joint_names", "joint_units", "cameras"):
        found = attributes.get(name)
        if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
            raise FileError(name, "must be an array of strings")
        if len(set(found)) != len(found) and name != "joint_units":
            raise FileError(name, "names something twice")
    joints = len(attributes["joint_names"])
    ticks = len(_dataset(file, "time/monotonic_ns", "i8", (None,)))
    if ticks == 0 or attributes.get("frames") != ticks:
        raise FileError("frames", f"is {attributes.get('frames')}, time/monotonic_ns has {ticks}; at least 1 is needed")
    for name in _TIMES:
        _dataset(file, f"time/{name}", "i8", (ticks,))
    for name in ("observations/qpos", "action", "action_requested"):
        _dataset(file, name, "f4", (ticks, joints))
    if attributes.get("outcome") not in _OUTCOMES:
        raise FileError("outcome", f"is {attributes.get('outcome')!r}, must be one of {', '.join(_OUTCOMES)}")
    return ticks


def _check_images(file: h5py.File, path: Path, camera: str, ticks: int) -> dict[str, int]:
    """Where the camera's pictures lie in the file, proved by reading them there without HDF5."""
    if "/" in camera or camera.startswith("."):
        raise FileError("cameras", f"{camera!r} is not a camera's name")
    name = f"observations/images/{camera}"
    images = _dataset(file, name, "u1", (ticks, None))
    found = {c: _dataset(file, f"observations/{c}/{camera}", kind, (ticks,)) for c, kind in _IMAGE_COLUMNS.items()}
    lengths = found["image_bytes"]
    stride = images.shape[1]
    place = {"offset": images.id.get_offset(), "stride": stride, "bytes_offset": lengths.id.get_offset()}
    raw = np.memmap(path, np.uint8, "r")
    sizes = raw[place["bytes_offset"] :][: 4 * ticks].view("<u4").astype(np.int64)
    if sizes.max() > stride:
        raise FileError(lengths.name.lstrip("/"), f"says {sizes.max()} bytes, a row of {name} has {stride}")
    _check_jpegs(raw[place["offset"] :][: ticks * stride].reshape(ticks, stride), sizes, name)
    return place


def _check_jpegs(rows: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64], name: str) -> None:
    """Every row begins and ends as a JPEG does; a length of 0 means that no picture had come yet."""
    seen = np.flatnonzero(sizes)
    if np.any(sizes[seen] < 4):
        raise FileError(name, f"row {seen[sizes[seen] < 4][0]} is too short for a JPEG")
    head, tail = rows[seen, :2], np.stack([rows[seen, sizes[seen] - 2], rows[seen, sizes[seen] - 1]], axis=1)
    whole = (head == (0xFF, 0xD8)).all(axis=1) & (tail == (0xFF, 0xD9)).all(axis=1)
    if not whole.all():
        raise FileError(name, f"row {seen[~whole][0]} is not a whole JPEG")


def _dataset(file: h5py.File, name: str, kind: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    """A dataset of this file's own bytes, in one piece."""
    node = _node(file, name)
    if node is None:
        raise FileError(name, "is missing")
    if not isinstance(node, h5py.Dataset):
        raise FileError(name, "is not a dataset")
    properties = node.id.get_create_plist()
    if properties.get_layout() != h5py.h5d.CONTIGUOUS or properties.get_external_count():
        raise FileError(name, "is not stored in one contiguous piece of the file")
    expected = np.dtype(kind).newbyteorder("<")
    if node.dtype != expected:
        raise FileError(name, f"has type {node.dtype}, must be {expected}")
    sizes = node.shape or ()  # None: it has no dataspace
    if len(sizes) != len(shape) or any(w is not None and w != s for w, s in zip(shape, sizes, strict=True)):
        raise FileError(name, f"has shape {node.shape}, must be {shape}")
    offset = node.id.get_offset()
    end = (offset or 0) + node.size * node.dtype.itemsize
    if (offset is None and node.size) or end > Path(file.filename).stat().st_size:
        raise FileError(name, "lies outside the file")
    return node


def _node(file: h5py.File, name: str) -> Any:
    """None when it is missing; a link out of the file counts as that: it could show other files of this machine."""
    node: Any = file
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(node.get(part, getlink=True), h5py.HardLink):
            return None
        node = node[part]
    return node


def _strings(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _columns(dataset: Any) -> list[list[float | None]]:
    return [_column(column) for column in np.asarray(dataset).T]


def _bits(file: h5py.File, name: str, ticks: int) -> list[int]:
    """0 or 1 for each tick; empty where the file has none, as those of the first agents."""
    if name not in file:
        return []
    return [int(value != 0) for value in _dataset(file, name, "u1", (ticks,))[:]]


def _column(values: npt.NDArray[Any], digits: int = 4) -> list[float | None]:
    rounded = np.round(values.astype(np.float64), digits)
    if np.isfinite(rounded).all():
        return list(rounded.tolist())
    return [value if np.isfinite(value) else None for value in rounded.tolist()]


def main(arguments: list[str]) -> int:
    """Of a process that reads this one file and ends: `[--signals] [--cpu-s=SECONDS] FILE`.

    It prints what it found, `{"error": {"field": ..., "message": ...}}` for a wrong file, or `{"failed": why}` where
    this machine cannot read it now.
    """
    *options, name = arguments
    path, only_signals = Path(name), "--signals" in options
    cpu_s = [int(option.partition("=")[2]) for option in options if option.startswith("--cpu-s=")]
    confine(path, cpu_s=min([*cpu_s, MOST_CPU_S]))
    try:
        if only_signals:
            found = signals(path)
        else:
            found = inspect(path)
            signals(path)  # so that nobody meets at the dashboard what cannot be read
    except FileError as error:
        found = {"error": {"field": error.field, "message": error.message}}
    except Exception as error:  # noqa: BLE001 - top of a process that reads untrusted files: h5py raises anything
        why = why_not(error, "read")
        found = {"failed": why} if is_machines_fault(error) else {"error": {"field": "file", "message": why}}
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
