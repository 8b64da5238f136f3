"""What may be sent to an arm: pure functions that stand between every policy and every robot."""

from dataclasses import dataclass

import numpy as np

from lefleet_agent.episode import Action, Floats


class UnsafeActionError(Exception):
    """The action cannot be made safe; the message names the joint and the value."""


@dataclass(frozen=True)
class Limits:
    """Per joint, shape (joints,), in the joint's own unit."""

    low: Floats
    high: Floats
    slew_per_tick: Floats
    """Largest change of a target from one tick to the next."""


def clamp(wanted: Action, last: Action, limits: Limits, joint_names: tuple[str, ...]) -> Action:
    """The nearest action inside the range and the slew limit; range wins where they disagree.

    `last` is the action sent before (or the joints' positions at an episode's start). LeRobot's
    `max_relative_target` lets NaN through, so a value that is not finite is refused here.
    Raises UnsafeActionError.
    """
    if wanted.shape != limits.low.shape:
        raise UnsafeActionError(
            f"action of shape {wanted.shape} for {len(joint_names)} joints {', '.join(joint_names)}"
        )
    if not np.isfinite(wanted).all():
        joint = int(np.flatnonzero(~np.isfinite(wanted))[0])
        raise UnsafeActionError(f"the policy asked for {joint_names[joint]} = {wanted[joint]}")
    slewed = np.clip(wanted, last - limits.slew_per_tick, last + limits.slew_per_tick)
    return np.clip(slewed, limits.low, limits.high).astype(np.float32)
