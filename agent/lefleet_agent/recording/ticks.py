"""How one tick lies in memory: the same bytes in the ring's slot and in the journal."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import RobotInfo

type Record = np.ndarray[tuple[()], np.dtype[np.void]]
"""One tick: an array of no dimensions over `tick_dtype`."""


def tick_dtype(robot: RobotInfo) -> np.dtype[np.void]:
    """Little endian, packed. `images` in the order of `robot.cameras`; `seen` is 0 where a camera had no image yet."""
    joints = len(robot.joint_names)
    image = np.dtype([("seen", "u1"), ("seq", "<u4"), ("taken_monotonic_ns", "<i8"), ("taken_wall_ns", "<i8")])
    return np.dtype(
        [
            ("number", "<u8"),  # counts the ticks of an episode, the dropped ones too
            ("dropped", "<u4"),  # how many of them were dropped so far
            ("tick_monotonic_ns", "<i8"),
            ("tick_wall_ns", "<i8"),
            ("read_monotonic_ns", "<i8"),
            ("lateness_ns", "<i8"),
            ("inference_ns", "<i8"),
            ("preprocess_ns", "<i8"),
            ("read_ns", "<i8"),
            ("send_ns", "<i8"),
            ("observed_ns", "<i8"),
            ("held", "u1"),
            ("intervention", "u1"),
            ("joints", "<f4", (joints,)),
            ("environment", "<f4", (robot.environment_size,)),
            ("requested", "<f4", (joints,)),
            ("sent", "<f4", (joints,)),
            ("images", image, (len(robot.cameras),)),
        ]
    )


def layout(robot: RobotInfo) -> str:
    """`tick_dtype` as JSON, for the journal: who reads it may be another version."""
    return json.dumps(tick_dtype(robot).descr)


def decode(raw: bytes, written: str, robot: RobotInfo) -> npt.NDArray[np.void]:
    """Ticks of a journal that was written with the layout `written`, in today's; what it did not have is 0.

    Raises ValueError or TypeError when the bytes are no ticks of that layout.
    """
    there = np.frombuffer(raw, np.dtype(_fields(json.loads(written))))
    today = np.zeros(len(there), tick_dtype(robot))
    for name in set(there.dtype.names or ()) & set(today.dtype.names or ()):
        today[name] = there[name]
    return today


def _fields(descr: list[Any]) -> list[Any]:
    """NumPy wants tuples where JSON has lists."""
    return [
        (name, _fields(kind) if isinstance(kind, list) else kind, *(tuple(shape) for shape in more))
        for name, kind, *more in descr
    ]
