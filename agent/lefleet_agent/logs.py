"""How this program logs: one logfmt line an event, to standard error."""

import os
import sys

import structlog


def configure() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def configure_aside() -> None:
    """As `configure`, and what libraries print goes to standard error: standard output is the command's answer."""
    configure()
    os.dup2(2, 1)
