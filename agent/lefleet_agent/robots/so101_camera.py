"""The control process's side of the renderer: it is shown states, and has the newest pictures at hand."""

import contextlib
import math
import select
import socket
import time
from ctypes import c_uint8
from multiprocessing import get_context
from typing import Any

from lefleet_agent.episode import CameraImage
from lefleet_agent.robot import RobotError
from lefleet_agent.robots.so101_render import Picture, Pictures, State, newest, render

FIRST_PICTURES_S = 60.0
"""A new process imports MuJoCo and cuts meshes: 3 s alone on a core, more where a fleet starts."""
_PACKAGES = {"osmesa": "libosmesa6", "egl": "libegl1 and libgl1-mesa-dri"}


class SimulatedCameras:
    """Pictures of the scene, drawn by another process; nothing here waits for it but `start` and `wait_for`."""

    def __init__(self, wanted: Pictures) -> None:
        self._wanted = wanted
        self._process: Any = None
        self._packets: socket.socket | None = None
        self._images: dict[str, CameraImage] = {}
        self._number = -1
        self._seq = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Start the process, or another one in place of one that ended."""
        self.stop()
        context = get_context("spawn")
        memory = context.RawArray(c_uint8, math.prod(self._wanted.shape))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = context.Process(
            target=render, args=(self._wanted, theirs, memory), name="so101-renderer", daemon=True
        )
        self._process.start()
        theirs.close()
        self._packets, self._slots, self._number = ours, self._wanted.slots(memory), -1

    def stop(self) -> None:
        """Hang up; the renderer ends by itself, or is ended."""
        if self._packets is not None:
            self._packets.close()
            self._packets = None
        if self._process is not None:
            self._process.join(2)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
            self._process = None

    def show(self, state: State) -> None:
        """Ask for pictures of this state. With a renderer that is gone or stuck the pictures grow old, no more."""
        if self._packets is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                self._packets.send(state.pack(), socket.MSG_DONTWAIT)

    def images(self) -> dict[str, CameraImage]:
        """The newest picture of each camera; no entry before its first one."""
        with contextlib.suppress(EOFError):  # the renderer is gone: the last pictures stay
            packet = newest(self._packets) if self._packets is not None else None
            if packet is not None:
                self._take(Picture.unpack(packet))
        return dict(self._images)

    def wait_for(self, number: int, limit_s: float) -> bool:
        """Wait for pictures of this state or a later one; False when the limit passed or the renderer ended."""
        deadline_s = time.monotonic() + limit_s
        while self._packets is not None and self._number < number:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not self.alive:
                return False
            select.select([self._packets, self._process.sentinel], [], [], left_s)
            self.images()
        return self._number >= number

    def failure(self) -> RobotError:
        """Why there are no pictures, for whoever waited in vain."""
        ended = self._process is not None and not self._process.is_alive()
        what = f"ended with exit code {self._process.exitcode}" if ended else "gives no pictures"
        return RobotError(
            f"the simulator's renderer {what} (its own message is on stderr): OpenGL back end "
            f"{self._wanted.gl!r} needs the Debian package {_PACKAGES[self._wanted.gl]}"
        )

    def _take(self, picture: Picture) -> None:
        self._number = picture.number
        self._seq += 1
        pixels = self._slots[picture.slot].copy()
        pixels.flags.writeable = False
        self._images = {
            camera: CameraImage(self._seq, picture.taken_monotonic_ns, picture.taken_wall_ns, rgb)
            for camera, rgb in zip(self._wanted.cameras, pixels, strict=True)
        }
