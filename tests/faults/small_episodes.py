"""Valid episode files of format 1 that take milliseconds to write: some numbers, a body of noise, maybe a camera."""

import time
import uuid
from pathlib import Path

import cv2
import h5py
import numpy as np

JOINTS = ["pan", "lift", "elbow", "flex", "roll", "gripper"]
PERIOD_NS = 33_333_333


def write_episode(folder: Path, robot_id: str, chance: np.random.Generator, *, camera: bool) -> Path:
    """20 to 250 kB, named by the episode's id."""
    ticks = int(chance.integers(10, 40))
    episode_id = uuid.uuid4().hex
    times = 10**9 + np.arange(ticks, dtype="<i8") * PERIOD_NS
    path = folder / f"{episode_id}.h5"
    with h5py.File(path, "w") as file:
        for name in ("observations/qpos", "action", "action_requested"):
            file[name] = chance.normal(size=(ticks, len(JOINTS))).astype("<f4")
        for name in ("monotonic_ns", "wall_ns", "lateness_ns", "inference_ns"):
            file[f"time/{name}"] = times
        file["ballast"] = chance.integers(0, 256, int(chance.integers(10_000, 230_000)), np.uint8)
        if camera:
            _film(file, times, chance)
        now = time.time_ns()
        file.attrs.update(
            {
                "lefleet_format": "1",
                "episode_id": episode_id,
                "robot_id": robot_id,
                "joint_names": JOINTS,
                "joint_units": ["deg"] * 6,
                "outcome": "success",
                "interrupted": False,
                "frames": ticks,
                "frames_dropped": 0,
                "fps": 30.0,
                "control_hz_held": 30.0,
                "started_wall_ns": now - ticks * PERIOD_NS,
                "ended_wall_ns": now,
            }
        )
        file.attrs["cameras"] = np.array(["wrist"] if camera else [], h5py.string_dtype())
    return path


def _film(file: h5py.File, times: np.ndarray, chance: np.random.Generator) -> None:
    noise = [chance.integers(0, 256, (24, 32, 3), np.uint8) for _ in times]
    pictures = [cv2.imencode(".jpg", pixels)[1].reshape(-1) for pixels in noise]
    rows = np.zeros((len(times), max(map(len, pictures))), np.uint8)
    for row, picture in zip(rows, pictures, strict=True):
        row[: len(picture)] = picture
    file["observations/images/wrist"] = rows
    file["observations/image_bytes/wrist"] = np.array([len(picture) for picture in pictures], "<u4")
    file["observations/image_seq/wrist"] = np.arange(len(times), dtype="<u4")
    file["observations/image_monotonic_ns/wrist"] = times - 5_000_000
    file["observations/image_wall_ns/wrist"] = times
