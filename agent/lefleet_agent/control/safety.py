"""What may be sent to an arm, and when: pure functions that stand between every policy and every robot."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lefleet_agent.episode import Action, Floats, Observation


class UnsafeActionError(Exception):
    """The action cannot be made safe; the message names the joint and the value."""


@dataclass(frozen=True)
class Limits:
    """Per joint, shape (joints,), in the joint's own unit."""

    low: Floats
    high: Floats
    slew_per_tick: Floats
    """Largest change of a target from one tick to the next."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old may be what is acted on, seconds."""

    joints_s: float = 0.2
    image_s: float = 1.0


def clamp(wanted: Action, last: Action, limits: Limits, joint_names: tuple[str, ...]) -> Action:
    """The nearest action inside the range and the slew limit.

    `last` is the action sent before (or the joints' positions at an episode's start). Where it lies outside the range
    the action comes back towards it no faster than the slew limit allows: never a jump. LeRobot's
    `max_relative_target` lets NaN through, so a value that is not finite is refused here. Raises UnsafeActionError.
    """
    if wanted.shape != limits.low.shape:
        raise UnsafeActionError(
            f"action of shape {wanted.shape} for {len(joint_names)} joints {', '.join(joint_names)}"
        )
    for values, said in ((wanted, "the policy asked for"), (last, "the arm says it is at")):
        if not np.isfinite(values).all():
            joint = int(np.flatnonzero(~np.isfinite(values))[0])
            raise UnsafeActionError(f"{said} {joint_names[joint]} = {values[joint]}")
    slewed = np.clip(wanted, last - limits.slew_per_tick, last + limits.slew_per_tick)
    low = np.minimum(limits.low, last + limits.slew_per_tick)
    high = np.maximum(limits.high, last - limits.slew_per_tick)
    return np.clip(slewed, low, high).astype(np.float32)


def approach(wanted: Action, last: Action, ticks: int) -> Action:
    """The next of `ticks` even steps from `last` to `wanted`; a target that moves meanwhile is reached all the same."""
    return wanted if ticks <= 1 else last + (wanted - last) / np.float32(ticks)


def stale(seen: Observation, now_ns: int, cameras: Iterable[str], freshness: Freshness) -> str | None:
    """Why this observation is not to be acted on, or None. `cameras`: those that the policy looks at."""
    joints_s = (now_ns - seen.read_monotonic_ns) * 1e-9
    if joints_s > freshness.joints_s:
        return f"the joints were last read {joints_s:.1f} s ago; check the bus"
    if not np.isfinite(seen.joints).all():
        return "the arm gives joint positions that are not finite"
    for camera in cameras:
        image = seen.images.get(camera)
        if image is None:
            return f"camera {camera} has given no picture yet"
        image_s = (now_ns - image.taken_monotonic_ns) * 1e-9
        if image_s > freshness.image_s:
            return f"camera {camera} gave its last picture {image_s:.1f} s ago; check its cable"
    return None
