"""A small seekable video of each camera, and its first and last picture even smaller, made after the analysis."""

VERSION = 1
"""Of the encoder. Raise it when its result changes; `jobs enqueue --all-older-than-version` does the rest."""

QUEUE = "previews"
PRIORITY = 5
"""Behind the analysis of what just arrived (0), before what is done over (10)."""
MOST_BYTES = 512 << 20
"""Of one file: hours of pictures; a camera that needs more has no preview."""

KINDS = ("video", "first", "last")
