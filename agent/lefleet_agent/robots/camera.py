"""Cameras of a real robot: a thread for each, and the newest picture of each at hand with the time it was taken.

A camera that freezes, vanishes or is late costs control nothing. Its last picture stays, with its old `seq` and time,
and the thread opens it again until it answers.
"""

import threading
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import structlog

from lefleet_agent.episode import CameraImage, Pixels
from lefleet_agent.realtime import Rank, follow

log = structlog.get_logger()


class CameraError(Exception):
    """The camera gives no pictures; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Shot:
    rgb: Pixels
    """Shape (height, width, 3)."""
    taken_monotonic_ns: int
    taken_wall_ns: int


class CameraSource(Protocol):
    """One camera. Used by one thread."""

    def open(self) -> None:
        """Raises CameraError."""

    def read(self) -> Shot:
        """The next picture; waits for it. Raises CameraError when none comes."""

    def close(self) -> None: ...


class CameraThread:
    """Keeps the newest picture of one source."""

    def __init__(self, name: str, source: CameraSource, height: int, width: int, reopen_s: float = 1.0) -> None:
        self._name = name
        self._source = source
        self._shape = (height, width, 3)
        self._reopen_s = reopen_s
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._image: CameraImage | None = None
        self._seq = 0
        self._trouble = ""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Pictures of before are forgotten; their numbers go on."""
        if self._thread is None:
            self._image = None
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name=f"camera-{self._name}", daemon=True
            )
            self._thread.start()

    def image(self) -> CameraImage | None:
        """The newest picture; None until there is one. Never waits."""
        return self._image

    def wait(self, limit_s: float) -> None:
        """Until there is a picture. Raises CameraError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._image is not None, limit_s):
                raise CameraError(f"camera {self._name}: {self._trouble or f'no picture within {limit_s:.0f} s'}")

    def stop(self) -> None:
        """A source that hangs in a call is left behind."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread:
            thread.join(1.0)

    def _run(self, stop: threading.Event) -> None:
        follow(Rank.CAMERA)
        while not stop.is_set():
            try:
                self._source.open()
                while not stop.is_set():
                    self._take(self._source.read())
            except CameraError as error:
                self._tell(str(error))
                stop.wait(self._reopen_s)
            finally:
                self._source.close()

    def _take(self, shot: Shot) -> None:
        if shot.rgb.shape != self._shape:
            got, wanted = shot.rgb.shape, self._shape
            raise CameraError(f"gives pictures of {got[1]}x{got[0]}, the settings say {wanted[1]}x{wanted[0]}")
        if self._trouble:
            log.info("the camera is back", camera=self._name)
        with self._changed:
            self._trouble = ""
            self._seq += 1
            self._image = CameraImage(self._seq, shot.taken_monotonic_ns, shot.taken_wall_ns, shot.rgb)
            self._changed.notify_all()

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("the camera gives no pictures", camera=self._name, reason=trouble)
        self._trouble = trouble


class FakeCamera:
    """A CameraSource whose faults are attributes: it freezes, drops pictures, delivers late, or is unplugged."""

    def __init__(self, height: int = 48, width: int = 64, fps: float = 50.0) -> None:
        self.frozen = threading.Event()
        self.unplugged = False
        self.late_s = 0.0
        self.drops = 0
        """How many of the next pictures get lost."""
        self.opened = 0
        self._period_s = 1 / fps
        self._size = (height, width)
        self._pictures = 0
        self._closed = threading.Event()

    def open(self) -> None:
        if self.unplugged:
            raise CameraError("/dev/fake: there is no such device")
        self._closed.clear()
        self.opened += 1

    def read(self) -> Shot:
        while True:
            if self.frozen.is_set():
                self._closed.wait(0.2)  # as a driver's select() does
                raise CameraError("/dev/fake: no picture for 0.2 s")
            self._closed.wait(self._period_s)
            if self.unplugged:
                raise CameraError("/dev/fake: it is gone")
            taken_ns, wall_ns = time.monotonic_ns(), time.time_ns()
            self._pictures += 1
            if self.drops:
                self.drops -= 1
                continue
            self._closed.wait(self.late_s)
            return Shot(np.full((*self._size, 3), self._pictures % 256, np.uint8), taken_ns, wall_ns)

    def close(self) -> None:
        self._closed.set()
