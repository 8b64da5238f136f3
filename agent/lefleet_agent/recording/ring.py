"""Fixed slots in shared memory between the control thread and its recorder: one writer, one reader, nobody waits.

Two pipes of slot numbers are the only thing both sides touch besides the slots: `filled`, in the order of filling, and
`free`. The writer takes the slot that was given back last, whose memory is still in the processor's cache: a recorder
that keeps up uses a few slots out of many, and copying a tick into one costs a third of a walk around all of them.

The memory has no name (memfd), so there is nothing to unlink: the kernel frees it when both processes are gone,
killed or not.
"""

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from multiprocessing import reduction

import numpy as np

from lefleet_agent.episode import Pixels, RobotInfo
from lefleet_agent.recording.events import DuplicateFd, NumberPipe
from lefleet_agent.recording.ticks import Record, tick_dtype

_CACHE_LINE = 64
_PAYLOAD_BYTES = 256 * 1024  # room for an EpisodeInfo with a policy of thousands of files
_HEADER = np.dtype(
    [
        ("kind", "<u4"),
        ("new_images", "<u4"),  # bit i: the slot holds a new picture of camera i
        ("payload_bytes", "<u4"),
        ("dropped_total", "<u8"),  # ticks dropped since control started
    ]
)


class Kind(IntEnum):
    BEGIN = 1
    TICK = 2
    END = 3
    STATUS = 4
    PREVIEW = 5
    WATCH = 6
    SAVE = 7


@dataclass(frozen=True, slots=True)
class Slot:
    """Views of one slot's memory."""

    header: Record
    tick: Record
    images: tuple[Pixels, ...]
    """One for each camera, shape (height, width, 3), RGB; only those of `new_images` mean anything."""
    payload: Pixels
    """Bytes of a message that is no tick (over the same memory as `tick` and `images`)."""

    @property
    def kind(self) -> Kind:
        return Kind(int(self.header["kind"]))

    @property
    def message(self) -> bytes:
        return self.payload[: int(self.header["payload_bytes"])].tobytes()


class Ring:
    """Both ends. Travels to a spawned process as an argument, before anything is written."""

    def __init__(self, robot: RobotInfo, slots: int, memory: int, filled: NumberPipe, free: NumberPipe) -> None:
        self.robot = robot
        self.filled = filled
        self.free = free
        self._memory = memory
        offsets, slot_bytes = _offsets(robot)
        # Populate: the first lap of ticks must not pay for the page faults.
        shared = mmap.mmap(memory, slots * slot_bytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._slots = tuple(_slot(shared, n * slot_bytes, robot, offsets, slot_bytes) for n in range(slots))
        self._free: list[int] = []
        """Writer: slots to fill, the one given back last at the end."""
        self._claimed: int | None = None
        self._taken: int | None = None

    @classmethod
    def create(cls, robot: RobotInfo, slots: int = 32) -> "Ring":
        memory = os.memfd_create("lefleet-ring")
        os.ftruncate(memory, slots * _offsets(robot)[1])
        free = NumberPipe.create()
        free.put(*range(slots))
        return cls(robot, slots, memory, NumberPipe.create(), free)

    @property
    def slots(self) -> int:
        return len(self._slots)

    def claim(self) -> Slot | None:
        """Writer: the slot to fill next, None when the ring is full. The same slot again until `commit`."""
        if self._claimed is None:
            self._claimed = self._free.pop() if self.has_room else None
        return None if self._claimed is None else self._slots[self._claimed]

    @property
    def has_room(self) -> bool:
        """Writer: whether a slot can be claimed now; if not, `free` turns readable when one can."""
        if self._claimed is None:
            self._free += self.free.take(len(self._slots))
        return self._claimed is not None or bool(self._free)

    def commit(self) -> None:
        """Writer: hand the claimed slot over."""
        claimed, self._claimed = self._claimed, None
        if claimed is None:
            raise RuntimeError("claim a slot before committing it")
        self.filled.put(claimed)

    def take(self) -> Slot | None:
        """Reader: the oldest filled slot, None when there is none. Valid until `release`."""
        if self._taken is None:
            self._taken = next(iter(self.filled.take(1)), None)
        return None if self._taken is None else self._slots[self._taken]

    def release(self) -> None:
        """Reader: give the slot back."""
        taken, self._taken = self._taken, None
        if taken is None:
            raise RuntimeError("take a slot before releasing it")
        self.free.put(taken)

    def close(self) -> None:
        """Give the memory up; slots still held keep it until they go."""
        self._slots = ()
        self.filled.close()
        self.free.close()
        os.close(self._memory)

    def __reduce__(self) -> tuple[Callable[..., "Ring"], tuple[object, ...]]:
        return _receive, (self.robot, len(self._slots), reduction.DupFd(self._memory), self.filled, self.free)


def _receive(robot: RobotInfo, slots: int, memory: DuplicateFd, filled: NumberPipe, free: NumberPipe) -> Ring:
    return Ring(robot, slots, memory.detach(), filled, free)


def _align(size: int) -> int:
    return -(-size // _CACHE_LINE) * _CACHE_LINE


def _offsets(robot: RobotInfo) -> tuple[list[int], int]:
    """Where each camera's picture begins in a slot, and the slot's size, in bytes."""
    end = _align(_HEADER.itemsize) + _align(tick_dtype(robot).itemsize)
    offsets = []
    for camera in robot.cameras.values():
        offsets.append(end)
        end += _align(camera.height * camera.width * 3)
    return offsets, max(end, _align(_HEADER.itemsize) + _PAYLOAD_BYTES)


def _slot(shared: mmap.mmap, start: int, robot: RobotInfo, offsets: list[int], slot_bytes: int) -> Slot:
    body = start + _align(_HEADER.itemsize)
    images: tuple[Pixels, ...] = tuple(
        np.ndarray((camera.height, camera.width, 3), np.uint8, shared, start + offset)
        for camera, offset in zip(robot.cameras.values(), offsets, strict=True)
    )
    return Slot(
        header=np.ndarray((), _HEADER, shared, start),
        tick=np.ndarray((), tick_dtype(robot), shared, body),
        images=images,
        payload=np.ndarray((slot_bytes - (body - start),), np.uint8, shared, body),
    )
