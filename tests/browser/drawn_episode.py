"""Episode files of format 1 (docs/episode-format.md) with drawn pictures, written with plain h5py.

Every picture carries its own number as a row of black and white squares, so that a test can read from the screen
which one is shown: the browser's canvas must agree with the file.
"""

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import h5py
import numpy as np
import numpy.typing as npt

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
UNITS = ("degrees",) * 5 + ("percent",)
BITS = 12
SQUARE_PX = 16
_NS = 1_000_000_000
_SIZE = (360, 480)

EVENTS = [
    ("late", 20, 21),
    ("person", 30, 44),
    ("held", 45, 47),
    ("frozen", 54, 92),
    ("limited", 80, 95),
    ("dropped", 100, 101),
]
"""Of an eventful episode of 120 ticks, 30 a second: kind, first and last tick."""

type Jpegs = Mapping[int, bytes]
"""Picture number to JPEG."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a test wants to be different; the rest is the same for all."""

    robot_id: str
    started_wall_ns: int
    episode_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    ticks: int = 120
    fps: float = 30.0
    camera_every: int = 3
    """Ticks per picture: cameras are slower than control."""
    outcome: str = "success"
    interrupted: bool = False
    end_reason: str = "goal reached"
    task: str = "Put the block on the disc"
    policy_repo: str = "lefleet/act-so101-block"
    policy_commit: str = "3f2a1c9d5b7e4a60c1d2e3f4a5b6c7d8e9f0a1b2"
    frames_dropped: int = 0
    seed: int = 0
    robot_type: str = "so101_sim"
    joint_names: tuple[str, ...] = JOINTS
    eventful: bool = False
    """With everything that the time line shows: see `EVENTS`."""


def write(folder: Path, drawing: Drawing) -> Path:
    """Writes `<episode_id>.h5` and returns its path."""
    tick = np.arange(drawing.ticks)
    seqs = 1 + tick // drawing.camera_every
    if drawing.eventful:
        seqs[57:93] = seqs[56]
    qpos = joints(tick / drawing.fps, drawing.seed)
    pictures = {
        camera: {int(seq): picture(camera, int(seq), qpos[(seq - 1) * drawing.camera_every]) for seq in np.unique(seqs)}
        for camera in ("front", "wrist")
    }
    return write_file(folder, drawing, qpos, dict.fromkeys(pictures, seqs), pictures)


def joints(seconds: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float32]:
    """A smooth motion of six joints, shape (ticks, 6)."""
    rng = np.random.default_rng(seed)
    speed, phase, reach = rng.uniform(0.6, 1.6, 6), rng.uniform(0, 6, 6), rng.uniform(18, 45, 6)
    wave = reach * np.sin(speed * seconds[:, None] + phase)
    wave[:, 5] = 50 + 48 * np.tanh(3 * np.sin(speed[5] * seconds + phase[5]))
    return wave.astype(np.float32)


def joints_at(seconds: float, seed: int) -> npt.NDArray[np.float32]:
    """The pose of that motion at one moment, shape (6,)."""
    return joints(np.array([seconds]), seed)[0]


def picture(camera: str, seq: int, pose: npt.NDArray[np.float32]) -> bytes:
    """An arm of three links on a table, and the picture's number in squares along the upper edge."""
    height, width = _SIZE
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = np.linspace((52, 46, 40), (92, 84, 76), height)[:, None, :]
    horizon = int(height * 0.66)
    image[horizon:] = np.linspace((120, 132, 140), (164, 176, 184), height - horizon)[:, None, :]
    cv2.circle(image, (int(width * 0.74), int(height * 0.8)), 26, (88, 178, 96), -1, cv2.LINE_AA)
    cv2.rectangle(
        image, (int(width * 0.3), int(height * 0.74)), (int(width * 0.36), int(height * 0.82)), (64, 92, 220), -1
    )
    zoom = 1.0 if camera == "front" else 1.35
    at, angle = np.array([width * 0.5, height * 0.84]), -math.pi / 2
    for length, turn, thick in ((92, pose[0] + pose[1] * 0.3, 22), (78, pose[2] * 1.4, 18), (46, pose[3], 13)):
        angle += math.radians(float(turn))
        to = at + zoom * length * np.array([math.cos(angle), math.sin(angle)])
        cv2.line(image, _point(at), _point(to), (38, 148, 246), int(thick * zoom), cv2.LINE_AA)
        cv2.circle(image, _point(at), int(thick * 0.62 * zoom), (40, 40, 44), -1, cv2.LINE_AA)
        at = to
    _write_number(image, seq)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


def write_file(
    folder: Path,
    drawing: Drawing,
    qpos: npt.NDArray[np.float32],
    seqs: Mapping[str, npt.NDArray[np.int64]],
    pictures: Mapping[str, Jpegs],
) -> Path:
    """The file itself: `seqs` says which of `pictures` each tick saw."""
    path = folder / f"{drawing.episode_id}.h5"
    ticks = np.arange(len(qpos), dtype=np.int64) * round(_NS / drawing.fps)
    sent = np.roll(qpos, -2, axis=0)
    sent[-2:] = qpos[-1]
    requested, late = sent.copy(), np.full(len(qpos), 300_000)
    if drawing.eventful:
        requested[80:96, 2] += 20
        late[20:22] = 14_000_000
        ticks[101:] += 5 * round(_NS / drawing.fps)
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        _put(file, "observations/qpos", qpos, "<f4")
        _put(file, "action", sent, "<f4")
        _put(file, "action_requested", requested, "<f4")
        _put(file, "time/monotonic_ns", 5 * _NS + ticks, "<i8")
        _put(file, "time/wall_ns", drawing.started_wall_ns + ticks, "<i8")
        _put(file, "time/lateness_ns", late, "<i8")
        if drawing.eventful:
            _put(file, "intervention", (np.arange(len(qpos)) // 15 == 2), "u1")
            _put(file, "held", (np.arange(len(qpos)) // 3 == 15), "u1")
        _put(file, "time/inference_ns", np.where(np.arange(len(qpos)) % 50 == 0, 18_000_000, 0), "<i8")
        for camera, numbers in seqs.items():
            _put_images(file, camera, numbers, pictures[camera], ticks, drawing)
        file["compress_len"] = np.stack([file[f"observations/image_bytes/{c}"][:] for c in seqs]).astype("<f4")
        file.attrs.update(_attributes(drawing, tuple(seqs), len(qpos), int(ticks[-1])))
    return path


def _put(file: h5py.File, name: str, values: npt.NDArray, kind: str) -> None:
    file.create_dataset(name, data=np.asarray(values).astype(kind))


def _put_images(
    file: h5py.File, camera: str, seqs: npt.NDArray, jpegs: Jpegs, ticks: npt.NDArray, drawing: Drawing
) -> None:
    rows = np.zeros((len(seqs), max(map(len, jpegs.values()))), np.uint8)
    for tick, seq in enumerate(seqs):
        jpeg = np.frombuffer(jpegs[int(seq)], np.uint8)
        rows[tick, : len(jpeg)] = jpeg
    _put(file, f"observations/images/{camera}", rows, "u1")
    _put(file, f"observations/image_bytes/{camera}", np.array([len(jpegs[int(seq)]) for seq in seqs]), "<u4")
    _put(file, f"observations/image_seq/{camera}", seqs, "<u4")
    _put(file, f"observations/image_monotonic_ns/{camera}", 5 * _NS + ticks - 12_000_000, "<i8")
    _put(file, f"observations/image_wall_ns/{camera}", drawing.started_wall_ns + ticks - 12_000_000, "<i8")


def _attributes(drawing: Drawing, cameras: tuple[str, ...], ticks: int, length_ns: int) -> dict[str, object]:
    return {
        "sim": True,
        "compress": True,
        "lefleet_format": "1",
        "episode_id": drawing.episode_id,
        "robot_id": drawing.robot_id,
        "robot_type": drawing.robot_type,
        "joint_names": list(drawing.joint_names),
        "joint_units": list(UNITS),
        "cameras": list(cameras),
        "camera_fingerprints": json.dumps({camera: f"{camera}-480x360-10" for camera in cameras}),
        "calibration_fingerprint": "d39dc26f0502b270879a29a2eeee32caab97c078500c90863c69546f16a1723c",
        "task": drawing.task,
        "policy_repo": drawing.policy_repo,
        "policy_commit": drawing.policy_commit,
        "policy_digest": "9b1dbcf4a1d15b0ea2a9d7b1c2d0e0f6b6a4f7c8e9d0a1b2c3d4e5f60718293a",
        "policy_type": "act",
        "policy_files": json.dumps({"model.safetensors": "0" * 64}),
        "agent_version": "0.1.0",
        "fps": drawing.fps,
        "control_hz_held": drawing.fps - 0.02,
        "started_wall_ns": drawing.started_wall_ns,
        "ended_wall_ns": drawing.started_wall_ns + length_ns,
        "outcome": drawing.outcome,
        "interrupted": drawing.interrupted,
        "end_reason": drawing.end_reason,
        "frames": ticks,
        "frames_dropped": drawing.frames_dropped,
        "seed": drawing.seed,
    }


def _write_number(image: npt.NDArray[np.uint8], number: int) -> None:
    for bit in range(BITS):
        left = bit * SQUARE_PX
        image[:SQUARE_PX, left : left + SQUARE_PX] = 255 if number >> bit & 1 else 0


def _point(at: npt.NDArray[np.float64]) -> tuple[int, int]:
    return int(at[0]), int(at[1])
