"""Observations in memory that the control process and its policy's process share: written by one, read by the other.

The memory has no name (memfd): the kernel frees it when both processes are gone, killed or not.
"""

import mmap
import os
from collections.abc import Callable, Sequence
from multiprocessing import reduction

import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import CameraImage, Observation, RobotInfo
from lefleet_agent.recording.events import DuplicateFd

MOST_OBSERVATIONS = 16
"""Longest history that a policy may ask for; the kernel gives memory only to what is written."""
JUDGED = MOST_OBSERVATIONS
"""The row of what the reward model looks at."""
_ROWS = MOST_OBSERVATIONS + 1


class ObservationMemory:
    """Both ends. Whoever writes makes sure that nobody reads meanwhile."""

    def __init__(self, robot: RobotInfo, memory: int) -> None:
        self._robot = robot
        self._memory = memory
        fields = _dtype(robot)
        shared = mmap.mmap(memory, _ROWS * fields.itemsize)
        self._rows: npt.NDArray[np.void] = np.ndarray((_ROWS,), fields, shared)

    @classmethod
    def create(cls, robot: RobotInfo) -> "ObservationMemory":
        memory = os.memfd_create("lefleet-observations")
        os.ftruncate(memory, _ROWS * _dtype(robot).itemsize)
        return cls(robot, memory)

    def write(self, seen: Sequence[Observation], cameras: Sequence[str], first: int = 0) -> None:
        """Copy the observations in from row `first` on, with the pictures of these cameras only."""
        for row, each in zip(self._rows[first:], seen, strict=False):
            row["joints"] = each.joints
            row["read_monotonic_ns"] = each.read_monotonic_ns
            if each.environment is not None:
                row["environment"] = each.environment
            for camera in cameras:
                row[camera_field(camera)] = each.images[camera].rgb

    def read(self, count: int, cameras: Sequence[str], first: int = 0) -> list[Observation]:
        """Views of `count` observations, valid until the next question."""
        return [self._observation(row, cameras) for row in self._rows[first : first + count]]

    def close(self) -> None:
        os.close(self._memory)

    def _observation(self, row: np.void, cameras: Sequence[str]) -> Observation:
        images = {camera: CameraImage(0, 0, 0, row[camera_field(camera)]) for camera in cameras}
        environment = row["environment"] if self._robot.environment_size else None
        return Observation(row["joints"], images, int(row["read_monotonic_ns"]), environment)

    def __reduce__(self) -> tuple[Callable[..., "ObservationMemory"], tuple[object, ...]]:
        return _receive, (self._robot, reduction.DupFd(self._memory))


def camera_field(camera: str) -> str:
    return f"camera/{camera}"


def _receive(robot: RobotInfo, memory: DuplicateFd) -> ObservationMemory:
    return ObservationMemory(robot, memory.detach())


def _dtype(robot: RobotInfo) -> np.dtype[np.void]:
    fields: list[tuple[str, str, tuple[int, ...]]] = [
        ("joints", "<f4", (len(robot.joint_names),)),
        ("environment", "<f4", (robot.environment_size,)),
        ("read_monotonic_ns", "<i8", ()),
    ]
    fields += [(camera_field(name), "u1", (camera.height, camera.width, 3)) for name, camera in robot.cameras.items()]
    return np.dtype(fields, align=True)
