"""How one tick lies in memory: the same bytes in the ring's slot and in the journal."""

import numpy as np

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
            ("joints", "<f4", (joints,)),
            ("environment", "<f4", (robot.environment_size,)),
            ("requested", "<f4", (joints,)),
            ("sent", "<f4", (joints,)),
            ("images", image, (len(robot.cameras),)),
        ]
    )
