"""How an episode's beginning and end are written, in the ring and in the journal: JSON."""

import json
from dataclasses import asdict, dataclass

from lefleet_agent.episode import CameraInfo, EpisodeInfo, Outcome, PolicyInfo, RobotInfo

EVENT = "before_event"
"""Key in the `extra` of an episode that holds the seconds before this event."""


@dataclass(frozen=True, slots=True)
class EpisodeEnd:
    outcome: Outcome
    interrupted: bool
    reason: str
    frames_dropped: int
    ended_wall_ns: int | None = None
    """None: when the last tick began."""


def encode_info(info: EpisodeInfo) -> bytes:
    return json.dumps(asdict(info)).encode()


def decode_info(data: bytes) -> EpisodeInfo:
    """Raises ValueError, KeyError or TypeError when the bytes are no EpisodeInfo."""
    fields = json.loads(data)
    robot, policy = fields["robot"], fields["policy"]
    robot["joint_names"] = tuple(robot["joint_names"])
    robot["joint_units"] = tuple(robot["joint_units"])
    robot["joint_limits"] = tuple((low, high) for low, high in robot["joint_limits"])
    robot["cameras"] = {name: CameraInfo(**camera) for name, camera in robot["cameras"].items()}
    fields["robot"] = RobotInfo(**robot)
    fields["policy"] = PolicyInfo(**policy) if policy else None
    return EpisodeInfo(**fields)


def encode_end(end: EpisodeEnd) -> bytes:
    return json.dumps(asdict(end)).encode()


def decode_end(data: bytes) -> EpisodeEnd:
    """Raises ValueError, KeyError or TypeError when the bytes are no EpisodeEnd."""
    fields = json.loads(data)
    fields["outcome"] = Outcome(fields["outcome"])
    return EpisodeEnd(**fields)
