"""An episode as a file for other people's viewers, made when somebody asks for it and kept nowhere."""

from enum import StrEnum


class Format(StrEnum):
    RRD = "rrd"
    """Rerun's."""
    MCAP = "mcap"
    """Foxglove's, and many others'."""


def most_bytes(file_bytes: int) -> int:
    """Of an export: pictures go in as they are, numbers as text take a few times their size in the file."""
    return 4 * file_bytes + (64 << 20)
