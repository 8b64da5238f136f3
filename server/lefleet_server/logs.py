"""Log lines: one JSON object each, or coloured text for people. Secrets never become log values."""

import logging
from typing import Any

import structlog

from lefleet_server.config import Settings


def configure(settings: Settings) -> None:
    """Sends everything, uvicorn's and the libraries' lines too, to stderr in the chosen format."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    last: Any = structlog.processors.JSONRenderer()
    if settings.log_format == "console":
        last = structlog.dev.ConsoleRenderer()
    steps: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if settings.log_format == "json":
        steps.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=[*steps, last]))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    for chatty in ("httpx", "httpcore", "asyncio", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
