"""What the spool knows of its episodes: values."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lefleet_agent.episode import Outcome


class State(StrEnum):
    WAITING = "waiting"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    FREED = "freed"


@dataclass(frozen=True, slots=True)
class SpooledEpisode:
    episode_id: str
    path: Path
    sha256: str
    bytes: int
    outcome: Outcome
    interrupted: bool
    intervened: bool
    """A person took over or corrected the robot."""
    ended_wall_ns: int
    state: State
    receipt: dict[str, object] | None
    reason: str | None

    @property
    def acknowledged(self) -> bool:
        return self.receipt is not None


@dataclass(frozen=True, slots=True)
class SpoolStats:
    waiting_episodes: int
    waiting_bytes: int
    refused_episodes: int
    refused_bytes: int
    acknowledged_episodes: int
    acknowledged_bytes: int
    """Still on the disk, free to go."""
    lost_episodes: int
    """Deleted before the server had them."""

    @property
    def unacknowledged_bytes(self) -> int:
        return self.waiting_bytes + self.refused_bytes

    @property
    def bytes(self) -> int:
        """Everything on the disk."""
        return self.unacknowledged_bytes + self.acknowledged_bytes
