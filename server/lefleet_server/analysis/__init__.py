"""What is done to an episode after its receipt: complete validation, statistics, quality flags."""

from enum import StrEnum

VERSION = 1
"""Of the rules. Raise it when one changes; `lefleet-server jobs enqueue --all-older-than-version` does the rest."""

QUEUE = "analysis"


class FlagName(StrEnum):
    """What an episode can be flagged for (docs/episode-format.md, "Quality flags")."""

    DROPPED_FRAMES = "dropped_frames"
    STALL = "stall"
    IDLE = "idle"
    JERK = "jerk"
    SATURATION = "saturation"
    CAMERA_FROZEN = "camera_frozen"
    CAMERA_DARK = "camera_dark"


class Quality(StrEnum):
    """The analysis in one word. `clean`: looked at, nothing found, not quarantined; `flagged`: for whatever;
    `pending`: no worker has looked at it yet. A quarantined episode is none of them."""

    CLEAN = "clean"
    FLAGGED = "flagged"
    PENDING = "pending"
