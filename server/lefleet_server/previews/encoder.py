"""One camera's pictures as a small video, and the first and last as thumbnails. Runs in the confined process alone.

H.264 baseline, yuv420p, a key frame at least each second and the index at the file's beginning: what every browser
plays and seeks. A picture's time is that of the first tick that saw it, so the video is in step with the plots, and
where nothing new came it stands still. Memory does not grow with the length: pictures are decoded one at a time.
"""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from lefleet_server.analysis.pictures import decoded
from lefleet_server.episodes.attributes import FileError
from lefleet_server.episodes.reader import Recording

VIDEO_PX = 640
"""Of the longer side, at most."""
THUMBNAIL_PX = 320
_TICKS_HZ = 90_000
_KEY_S = 1.0
_X264 = {"preset": "veryfast", "profile": "baseline", "crf": "27", "forced-idr": "1", "threads": "1"}


def encode(path: Path, found: Recording, name: str, outputs: Mapping[str, Path]) -> dict[str, Any]:
    """Writes `outputs` (video, first, last); {kind: {"width", "height", "duration_s"}}.

    Raises FileError: there is no picture, or a wrong one.
    """
    times = (found.monotonic_ns - found.monotonic_ns[0]) / 1e9
    writer: _Video | None = None
    first = last = None
    for tick, picture in decoded(path, name, found.cameras[name]):
        if writer is None:
            writer = _Video(outputs["video"], picture)
            writer.begin(float(times[tick]))
        first, last = first or picture, picture
        writer.add(picture, float(times[tick]))
    if writer is None:
        raise FileError(f"observations/images/{name}", "has no picture")
    writer.add(last, float(times[-1]))
    writer.end()
    return {
        "video": {"width": writer.width, "height": writer.height, "duration_s": round(float(times[-1]), 6)},
        "first": _thumbnail(outputs["first"], first),
        "last": _thumbnail(outputs["last"], last),
    }


class _Video:
    def __init__(self, path: Path, first: Any) -> None:
        self.width, self.height = _fit(first, VIDEO_PX)
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream: Any = self._container.add_stream("libx264", rate=30, options=_X264)
        self._stream.width, self._stream.height, self._stream.pix_fmt = self.width, self.height, "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, _TICKS_HZ)
        # Key frames come by time, below; the encoder itself counts pictures, of which a second has any number.
        self._stream.codec_context.gop_size = 1000
        self._at = -1
        self._key_at = -_TICKS_HZ

    def begin(self, first_s: float) -> None:
        """Black until the first picture came, or players would begin with it at once."""
        if first_s > 0:
            black = np.full((self.height * 3 // 2, self.width), 128, np.uint8)
            black[: self.height] = 16
            self.add(av.VideoFrame.from_ndarray(black, format="yuv420p"), 0.0)

    def add(self, picture: Any, seconds: float) -> None:
        at = round(seconds * _TICKS_HZ)
        if at <= self._at:
            return
        frame = picture.reformat(self.width, self.height, "yuv420p")
        frame.pts, frame.time_base, self._at = at, Fraction(1, _TICKS_HZ), at
        is_key = at - self._key_at >= _KEY_S * _TICKS_HZ
        frame.pict_type = av.video.frame.PictureType.I if is_key else av.video.frame.PictureType.NONE
        self._key_at = at if is_key else self._key_at
        self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


def _thumbnail(path: Path, picture: Any) -> dict[str, Any]:
    width, height = _fit(picture, THUMBNAIL_PX)
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuvj420p"
    context.time_base = Fraction(1, 1)
    context.qmin = context.qmax = 5
    frame = picture.reformat(width, height, "yuvj420p")
    frame.pts, frame.time_base, frame.pict_type = 0, Fraction(1, 1), av.video.frame.PictureType.NONE
    packets = context.encode(frame) + context.encode(None)
    path.write_bytes(b"".join(bytes(packet) for packet in packets))
    return {"width": width, "height": height, "duration_s": 0.0}


def _fit(picture: Any, most: int) -> tuple[int, int]:
    """Width and height within `most`, even as 4:2:0 wants them; never larger than the picture but for that."""
    scale = min(1.0, most / max(picture.width, picture.height))
    return max(2, round(picture.width * scale / 2) * 2), max(2, round(picture.height * scale / 2) * 2)
