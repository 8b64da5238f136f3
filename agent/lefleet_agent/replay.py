"""Playing an episode again: whether this robot may, on which way it goes there, and how close it came."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lefleet_agent.episode import Action, EpisodeInfo, Floats, Frame, Outcome, RobotInfo
from lefleet_agent.recording.recorded import RecordedEpisode

ARRIVAL_SPARE_S = 5.0


class ReplayError(Exception):
    """This episode is not played on this robot; the message says why and what would be right."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played, tick by tick, shape (ticks, joints) each."""

    actions: Floats
    joints: Floats
    """Where the joints were then."""

    @classmethod
    def of(cls, episode: RecordedEpisode, requested: bool) -> "Plan":
        rows = episode.rows()
        return cls((episode.requested if requested else episode.sent)[rows], episode.joints[rows])


def check(episode: RecordedEpisode, robot: RobotInfo, force: bool) -> str | None:
    """A warning, or None. `force`: another calibration is only a warning. Raises ReplayError."""
    for what, theirs, ours in (
        ("joints", episode.joint_names, robot.joint_names),
        ("units", episode.joint_units, robot.joint_units),
    ):
        if theirs != ours:
            raise ReplayError(
                f"the episode of {episode.robot_id} has the {what} {', '.join(theirs)}, this robot has "
                f"{', '.join(ours)}, in this order; play it on a robot of its kind"
            )
    for what, values in (("action", episode.sent), ("position", episode.joints), ("wish", episode.requested)):
        if not np.isfinite(values).all():
            tick, joint = np.argwhere(~np.isfinite(values))[0]
            raise ReplayError(
                f"the episode's {what} of {robot.joint_names[joint]} at tick {tick} is {values[tick, joint]}; "
                "it cannot be played"
            )
    if episode.calibration_fingerprint == robot.calibration_fingerprint:
        return None
    told = (
        f"the episode was recorded on {episode.robot_id} with calibration {episode.calibration_fingerprint[:16]}, this "
        f"robot has {robot.calibration_fingerprint[:16]}: the same numbers may be other places, by some degrees or more"
    )
    if not force:
        raise ReplayError(f"{told}. Look at both arms, then say --force")
    return told


def start_position(plan: Plan, low: Action, high: Action) -> Action:
    """Where the arm is led first: where the joints were, inside what may be asked for."""
    position: Action = np.clip(plan.joints[0], low, high)
    return position


def travel_limit_s(here: Action, there: Action, speed_per_s: float) -> float:
    """Long enough to go there slowly."""
    return float(np.abs(there - here).max()) / speed_per_s + ARRIVAL_SPARE_S


class Comparison:
    """An EpisodeSink: how far the joints are from where they were. Ticks that hold still are not of the plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._seen: list[Floats] = []
        self.clamped = 0
        """Ticks in which range or slew limit changed what was asked for."""
        self.held = 0

    def begin(self, info: EpisodeInfo) -> None:
        del info
        self._seen.clear()

    def add(self, frame: Frame) -> bool:
        if frame.held:
            self.held += 1
            return True
        self._seen.append(frame.observation.joints)
        self.clamped += bool(np.abs(frame.sent - frame.requested).max() > TOLERANCE)
        return True

    def end(self, outcome: Outcome, interrupted: bool, reason: str) -> None:
        del outcome, interrupted, reason

    @property
    def played(self) -> int:
        return len(self._seen)

    def deviation(self) -> tuple[Floats, Floats]:
        """Root mean square and largest distance of each joint, in its unit; zeros when nothing was played."""
        if not self._seen:
            nothing = np.zeros(self._plan.joints.shape[1], np.float32)
            return nothing, nothing
        apart = np.stack(self._seen) - self._plan.joints[: len(self._seen)]
        return np.sqrt((apart**2).mean(axis=0)), np.abs(apart).max(axis=0)


TOLERANCE = 0.25
"""Degrees, or percent of the gripper: motors take whole steps of their encoder."""


def document(
    episode: RecordedEpisode, robot: RobotInfo, plan: Plan, seen: Comparison, ended: dict[str, Any]
) -> dict[str, Any]:
    """The report. `ended`: outcome, interrupted, reason and what else is said of the run."""
    rms, largest = seen.deviation()
    joints = {
        name: {"unit": unit, "rms": round(float(a), 3), "max": round(float(b), 3)}
        for name, unit, a, b in zip(robot.joint_names, robot.joint_units, rms, largest, strict=True)
    }
    return {
        "episode_id": episode.episode_id,
        "robot_id": robot.robot_id,
        "ticks": len(plan.actions),
        "played": seen.played,
        "held": seen.held,
        "clamped": seen.clamped,
        "joints": joints,
        **ended,
    }
