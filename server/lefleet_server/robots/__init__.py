"""The robots: who they are, how they are, what people want of them."""

from enum import StrEnum

MOST_CAMERAS = 32
"""Of one robot: as many names a heartbeat has at most, and of as many a picture is kept."""


class Word(StrEnum):
    """What a person may say of the episode that runs; each ends it."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"
    REDO = "redo"
    """It does not count and is to be done again: kept, as interrupted."""
