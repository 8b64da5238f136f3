"""A V4L2 camera through OpenCV, with the time at which the kernel had each picture."""

import hashlib
import os
import time
from pathlib import Path

# OpenCV reads it when it is loaded. A camera that freezes is opened again after this; its own default is 10 s.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")

import cv2
import numpy as np

from lefleet_agent.config_robots import VideoCamera
from lefleet_agent.episode import CameraInfo, Pixels
from lefleet_agent.robots.camera import CameraError, Shot

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_PLAUSIBLE_AGE_NS = 5 * 10**9


class OpenCvCamera:
    """A CameraSource."""

    def __init__(self, settings: VideoCamera, backend: int = cv2.CAP_V4L2) -> None:
        self._settings = settings
        self._backend = backend
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        path = self._settings.path
        if not Path(path).exists():
            raise CameraError(f"{path}: there is no such device; is the camera plugged in, at the port it belongs to?")
        capture = cv2.VideoCapture(path, self._backend)
        self._capture = capture
        if not capture.isOpened():
            raise CameraError(
                f"{path}: cannot be opened; another program may use it, or the agent is not in the group `video`"
            )
        self._set_up(capture)

    def _set_up(self, capture: cv2.VideoCapture) -> None:
        wanted = self._settings
        # The format first: it decides which sizes and rates there are.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.fourcc))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.height)
        capture.set(cv2.CAP_PROP_FPS, wanted.fps)
        code = int(capture.get(cv2.CAP_PROP_FOURCC))
        fourcc = code.to_bytes(4, "little", signed=code < 0).decode("ascii", "replace")
        size = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        fps = capture.get(cv2.CAP_PROP_FPS)  # 0 where the driver does not know
        if fourcc != wanted.fourcc or size != (wanted.width, wanted.height) or (fps and abs(fps - wanted.fps) > 1):
            raise CameraError(
                f"{wanted.path}: {wanted.fourcc} {wanted.width}x{wanted.height} at {wanted.fps:g}/s was asked for, it "
                f"made that {fourcc} {size[0]}x{size[1]} at {fps:g}/s; `v4l2-ctl --list-formats-ext -d {wanted.path}` "
                "shows what it offers"
            )

    def read(self) -> Shot:
        if self._capture is None:
            raise CameraError(f"{self._settings.path}: it is not open")
        try:
            there, bgr = self._capture.read()
        except cv2.error as error:
            raise CameraError(f"{self._settings.path}: a broken picture: {error}") from error
        now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        if not there:
            raise CameraError(f"{self._settings.path}: it gives no picture; is it unplugged, or the USB bus full?")
        age_ns = self._age_ns(now_ns)
        return Shot(self._rgb(np.asarray(bgr, np.uint8)), now_ns - age_ns, wall_ns - age_ns)

    def _age_ns(self, now_ns: int) -> int:
        """How long ago the kernel had the picture: V4L2's stamp is on the monotonic clock. 0 where there is none."""
        if self._capture is None or self._backend != cv2.CAP_V4L2:
            return 0
        age_ns = now_ns - round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return age_ns if 0 <= age_ns < _PLAUSIBLE_AGE_NS else 0

    def _rgb(self, bgr: Pixels) -> Pixels:
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        turn = _TURNS.get(self._settings.turn_degrees)
        return np.asarray(rgb if turn is None else cv2.rotate(rgb, turn), np.uint8)

    def close(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()


def describe(settings: VideoCamera) -> CameraInfo:
    """What the pictures are after they were turned."""
    height, width = settings.height, settings.width
    if settings.turn_degrees in (90, 270):
        height, width = width, height
    fingerprint = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
    return CameraInfo(height, width, settings.fps, fingerprint)
