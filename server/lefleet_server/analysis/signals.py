"""Statistics and quality flags of an episode's numbers. Pure; time is the first axis, units are the file's."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lefleet_server.episodes.attributes import FileError
from lefleet_server.episodes.reader import Recording

type Json = dict[str, Any]
type Floats = npt.NDArray[np.float64]

# Every threshold of docs/episode-format.md, "Quality flags", with its unit.
DROPPED_SHARE = 0.01
"""Frames that the recorder lost, of all."""
STALL_PERIODS = 3.0
"""Longest time between two ticks, in periods of the rate asked for."""
FROZEN_S = 1.0
"""Longest time without a new picture."""
DARK_LUMA = 16.0
"""Median brightness of a camera's pictures, 0 to 255 (16 is black in video)."""
JERK = 50_000.0
"""95th percentile of a joint's third difference of position, units/s³; 90° in a smooth second has 5400."""
CLIPPED = 0.5
"""Difference between the action asked for and the one sent that counts as clipped, units."""
SATURATED_SHARE = 0.1
"""Ticks at which a joint's action was clipped, of all."""
IDLE_SPEED = 1.0
"""Slowest speed that counts as moving, units/s, over half a second, of the fastest joint."""
IDLE_SHARE = 0.5
"""Ticks without motion, of all."""


def require_whole(found: Recording) -> None:
    """Raises FileError where numbers cannot be trusted: not finite, or a clock that went back."""
    for name, values in (("observations/qpos", found.qpos), ("action", found.action)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            tick, joint = bad[0]
            raise FileError(name, f"{found.joints[joint]} is {values[tick, joint]} at tick {tick}")
    back = np.flatnonzero(np.diff(found.monotonic_ns) <= 0)
    if len(back):
        raise FileError("time/monotonic_ns", f"does not grow at tick {back[0] + 1}")


def statistics(found: Recording) -> Json:
    """Everything the flags are judged by, and a summary per joint."""
    steps_s = np.diff(found.monotonic_ns) / 1e9
    degrees = np.where([unit == "rad" for unit in found.units], 180 / np.pi, 1.0)
    qpos, sent, asked = found.qpos * degrees, found.action * degrees, found.requested * degrees
    with np.errstate(invalid="ignore"):
        clipped = (~(np.abs(asked - sent) <= CLIPPED)).mean(axis=0)
    jerk = _jerk(qpos, found.fps)
    joints = {
        name: {
            "unit": unit,
            "min": _number(found.qpos[:, n].min()),
            "max": _number(found.qpos[:, n].max()),
            "mean": _number(found.qpos[:, n].mean()),
            "std": _number(found.qpos[:, n].std()),
            "jerk_p95": _number(jerk[n]),
            "clipped_share": _number(clipped[n]),
        }
        for n, (name, unit) in enumerate(zip(found.joints, found.units, strict=True))
    }
    ticks = len(found.qpos)
    return {
        "frames": ticks,
        "dropped_share": _number(found.frames_dropped / (found.frames_dropped + ticks)),
        "longest_gap_s": _number(steps_s.max(initial=0.0)),
        "idle_share": _number(_idle(qpos, found.fps)),
        "joints": joints,
        "cameras": {},
    }


def flags(measured: Json, fps: float) -> list[Json]:
    """What is beyond its threshold: [{"name", "value", "threshold", "unit", "where"}]."""
    return [
        {"name": name, "value": value, "threshold": limit, "unit": unit, "where": where}
        for name, value, limit, unit, where, bad in _judged(measured, fps)
        if bad
    ]


def _judged(measured: Json, fps: float) -> Iterator[tuple[str, float, float, str, str, bool]]:
    def above(name: str, value: float, limit: float, unit: str, where: str = "") -> tuple[Any, ...]:
        return name, value, limit, unit, where, value > limit

    yield above("dropped_frames", measured["dropped_share"], DROPPED_SHARE, "share of frames")
    yield above("stall", measured["longest_gap_s"], round(STALL_PERIODS / fps, 6), "s")
    yield above("idle", measured["idle_share"], IDLE_SHARE, "share of frames")
    for name, joint in measured["joints"].items():
        yield above("jerk", joint["jerk_p95"], JERK, "units/s³", name)
        yield above("saturation", joint["clipped_share"], SATURATED_SHARE, "share of frames", name)
    for name, camera in measured["cameras"].items():
        yield above("camera_frozen", camera["longest_frozen_s"], FROZEN_S, "s", name)
        luma = camera["luma_median"]
        if luma is not None:
            yield "camera_dark", luma, DARK_LUMA, "of 255", name, luma < DARK_LUMA


def _jerk(qpos: Floats, fps: float) -> Floats:
    if len(qpos) < 4:
        return np.zeros(qpos.shape[1])
    third = np.abs(np.diff(qpos, 3, axis=0)) * fps**3
    return np.asarray(np.percentile(third, 95, axis=0))


def _idle(qpos: Floats, fps: float) -> float:
    window = max(1, round(fps / 2))
    if len(qpos) <= window or not qpos.shape[1]:
        return 0.0
    speed = np.abs(qpos[window:] - qpos[:-window]).max(axis=1) * fps / window
    return float((speed < IDLE_SPEED).mean())


def _number(value: Any) -> float:
    """Six digits; JSON has no infinity, and a value that large is as good as this one."""
    return round(float(np.nan_to_num(value, nan=0.0, posinf=1e30, neginf=-1e30)), 6)
