"""The renderer: a process of its own that draws the newest state of the scene and shares the pictures.

One socket pair joins it to the control process, packet by packet: states go in, "slot n holds the picture of that
state" comes out. Neither side ever waits on the other. The pixels lie in shared memory, in slots used in rotation.
Since a system call stands between writing a slot and telling of it, no memory barrier is needed (ARM reorders
stores); and since a picture is only drawn for a new state, a control process that stands still finds its slots as
they were.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import Any

import numpy as np

from lefleet_agent.episode import Pixels
from lefleet_agent.memory import be_called

SLOTS = 8
QPOS_SIZE, GOAL_SIZE = 13, 3
_STATE = struct.Struct(f"<Qqq{QPOS_SIZE + GOAL_SIZE}d")
_PICTURE = struct.Struct("<BQqq")
_LARGEST_PACKET_BYTES = 4096


@dataclass(frozen=True, slots=True)
class State:
    """What the scene looked like at one instant."""

    number: int
    taken_monotonic_ns: int
    taken_wall_ns: int
    pose: tuple[float, ...]
    """MuJoCo's qpos (arm, block), then the goal's xyz."""

    def pack(self) -> bytes:
        return _STATE.pack(self.number, self.taken_monotonic_ns, self.taken_wall_ns, *self.pose)

    @classmethod
    def unpack(cls, packet: bytes) -> "State":
        number, monotonic_ns, wall_ns, *pose = _STATE.unpack(packet)
        return cls(number, monotonic_ns, wall_ns, tuple(pose))


@dataclass(frozen=True, slots=True)
class Picture:
    """Which slot holds the pictures of which state."""

    slot: int
    number: int
    taken_monotonic_ns: int
    taken_wall_ns: int

    def pack(self) -> bytes:
        return _PICTURE.pack(self.slot, self.number, self.taken_monotonic_ns, self.taken_wall_ns)

    @classmethod
    def unpack(cls, packet: bytes) -> "Picture":
        return cls(*_PICTURE.unpack(packet))


@dataclass(frozen=True, slots=True)
class Pictures:
    """What to draw, and how often."""

    cameras: tuple[str, ...]
    width: int
    height: int
    fps: float
    gl: str
    """MuJoCo's OpenGL back end: "osmesa" draws on the CPU, "egl" on a GPU."""

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        return SLOTS, len(self.cameras), self.height, self.width, 3

    def slots(self, memory: Any) -> Pixels:
        """The slots in shared memory, shape (slots, cameras, height, width, 3)."""
        return np.frombuffer(memory, np.uint8).reshape(self.shape)


def newest(packets: socket.socket) -> bytes | None:
    """The last packet that waits; None where none does. Raises EOFError once the other side is gone."""
    last: bytes | None = None
    while True:
        try:
            packet = packets.recv(_LARGEST_PACKET_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return last
        except ConnectionResetError as error:
            raise EOFError from error
        if not packet:
            raise EOFError
        last = packet


def render(wanted: Pictures, packets: socket.socket, memory: Any) -> None:
    """The renderer's main function: draws until its parent is gone or hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the control process, which then hangs up
    os.nice(5)  # control comes first where cores are few
    be_called("lefleet-render")
    os.environ["LP_NUM_THREADS"] = "1"  # of Mesa: two robots share two cores
    from lefleet_agent.robots.so101_draw import Drawing

    slots = wanted.slots(memory)
    drawing = Drawing(wanted.cameras, wanted.width, wanted.height, wanted.gl)
    for count, state in enumerate(_states(packets, 1 / wanted.fps)):
        slot = count % SLOTS
        drawing.draw(np.array(state.pose), slots[slot])
        picture = Picture(slot, state.number, state.taken_monotonic_ns, state.taken_wall_ns)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # gone: _states says so next
            packets.send(picture.pack())


def _states(packets: socket.socket, period_s: float) -> Iterator[State]:
    """The newest state, at most once a period, until the parent is gone.

    Nothing while what the parent was told waits unread: the last thing it was told must stay true of its slot.
    """
    parent = parent_process()
    gone = [parent.sentinel] if parent else []
    due_s = time.monotonic()
    try:
        while True:
            ready, _, _ = select.select([packets.fileno(), *gone], [], [])
            if packets.fileno() not in ready:
                return
            ended, _, _ = select.select(gone, [], [], max(0.0, due_s - time.monotonic()))
            if ended:
                return
            select.select(gone, [packets.fileno()], [])
            packet = newest(packets)
            if packet is None:
                continue
            due_s = max(due_s + period_s, time.monotonic())
            yield State.unpack(packet)
    except EOFError:
        return
