"""What is done to an episode after its receipt: complete validation, statistics, quality flags."""

VERSION = 1
"""Of the rules. Raise it when one changes; `lefleet-server jobs enqueue --all-older-than-version` does the rest."""

QUEUE = "analysis"
