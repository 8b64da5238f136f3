"""A camera's pictures: each decoded once, and measured."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from lefleet_server.episodes.attributes import FileError
from lefleet_server.episodes.reader import Camera

_MOST_PIXELS = 4096 * 4096
"""A picture whose head says more is not decoded: a few kilobytes may claim gigabytes."""


def go_over(path: Path, name: str, camera: Camera, ticks_ns: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Decodes every picture that differs from the one before, and measures the camera.

    Raises FileError for a picture that cannot be decoded.
    """
    lumas: list[float] = []
    shown: list[int] = []
    for tick, picture in decoded(path, name, camera):
        lumas.append(float(_luma(picture).mean()))
        shown.append(tick)
    return {
        "pictures": len(shown),
        "longest_frozen_s": _longest_frozen_s(ticks_ns, shown),
        "luma_median": round(float(np.median(lumas)), 2) if lumas else None,
    }


def decoded(path: Path, name: str, camera: Camera) -> Iterator[tuple[int, Any]]:
    """(tick, picture) for each that differs from the one before. Raises FileError for one that cannot be decoded."""
    for tick, data in _pictures(path, camera):
        try:
            yield tick, _decode(data)
        except (av.FFmpegError, ValueError) as error:
            why = f"row {tick} cannot be decoded, or has more than {_MOST_PIXELS} pixels: {error}"[:300]
            raise FileError(f"observations/images/{name}", why) from error


def _pictures(path: Path, camera: Camera) -> Iterator[tuple[int, bytes]]:
    """(tick, JPEG) for each picture that is not the same bytes as the one before."""
    before = b""
    raw = np.memmap(path, np.uint8, "r")
    for tick, length in enumerate(camera.lengths):
        if not length:
            continue
        begin = camera.place["offset"] + tick * camera.place["stride"]
        data = raw[begin : begin + int(length)].tobytes()
        if data != before:
            yield tick, data
        before = data


def _longest_frozen_s(ticks_ns: npt.NDArray[np.int64], shown: list[int]) -> float:
    """Without a new picture, as control saw it; from the beginning, and to the end."""
    edges = ticks_ns[[0, *shown, len(ticks_ns) - 1]]
    return round(float(np.diff(edges).max()) / 1e9, 6)


def _decode(data: bytes) -> Any:
    context: Any = av.CodecContext.create("mjpeg", "r")
    context.thread_count = 1
    context.options = {"max_pixels": str(_MOST_PIXELS)}
    frames = context.decode(av.Packet(data)) + context.decode(None)
    if len(frames) != 1:
        raise ValueError(f"holds {len(frames)} pictures")
    return frames[0]


def _luma(picture: Any) -> npt.NDArray[np.uint8]:
    return np.asarray(picture.reformat(64, 48, "gray").to_ndarray())
