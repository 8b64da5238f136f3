"""What a worker does beside its jobs: superfluous files go, and at night what the retention rules say."""

import asyncio

import structlog

from lefleet_server.config import Settings
from lefleet_server.db import FAILURES, Database, utc_now
from lefleet_server.deletion import files
from lefleet_server.problems import Unavailable
from lefleet_server.retention import nightly
from lefleet_server.storage import BlobStore

log = structlog.get_logger()

_EVERY_S = 60.0
_AWAY = (*FAILURES, Unavailable)


async def keep(settings: Settings, db: Database, blobs: BlobStore, worker: str) -> None:
    """Once a minute until cancelled; what the database or the store cannot do now is done later."""
    while True:
        try:
            await nightly.run(db, settings, worker, utc_now())
            await files.remove_due(db, blobs)
        except _AWAY as error:
            log.warning("housekeeping stopped; next try in a minute", error=str(error)[:200])
        await asyncio.sleep(_EVERY_S)
