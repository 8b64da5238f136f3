"""A small seekable video and a thumbnail of each camera, made after the analysis."""

VERSION = 1
"""Of the encoder. Raise it when its result changes; `jobs enqueue --all-older-than-version` does the rest."""

QUEUE = "previews"
PRIORITY = 5
"""Behind the analysis of what just arrived (0), before what is done over (10)."""
