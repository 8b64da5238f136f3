"""Log lines: one JSON object each, or coloured text for people. Secrets never become log values."""

import logging
from typing import Any

import structlog

from lefleet_server.config import Settings


def configure(settings: Settings) -> None:
    """Sends everything, uvicorn's and the libraries' lines too, to stderr in the chosen format."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is below the level costs nothing: there is a debug line for each request.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Or each line's logger would be put together anew: a twelfth of what a heartbeat costs.
        cache_logger_on_first_use=True,
    )
    last: Any = structlog.processors.JSONRenderer()
    if settings.log_format == "console":
        # The usual formatter prints the variables of every frame: the password that a request just brought, say.
        last = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    steps: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if settings.log_format == "json":
        steps.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=[*steps, last]))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # SQLAlchemy's engine tells every statement with its values, and the rows that it found.
    for chatty in ("httpx", "httpcore", "asyncio", "alembic", "sqlalchemy.engine"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Their debug lines are a live connection's headers with the cookie.
    for secretive in ("uvicorn", "websockets"):
        logging.getLogger(secretive).setLevel(max(logging.INFO, logging.getLogger().level))


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
