"""What a worker does beside its jobs: files and changes that are too many go, at night what the retention rules say."""

import asyncio
import itertools

import structlog

from lefleet_server.config import Settings
from lefleet_server.db import FAILURES, Database, utc_now
from lefleet_server.deletion import files
from lefleet_server.problems import Unavailable
from lefleet_server.retention import nightly
from lefleet_server.robots import notes
from lefleet_server.storage import BlobStore

log = structlog.get_logger()

_EVERY_S = 60.0
_PRUNING_EVERY = 60
"""Rounds: it looks at each robot's changes, of which one that flaps makes some hundreds in an hour."""
_AWAY = (*FAILURES, Unavailable)


async def keep(settings: Settings, db: Database, blobs: BlobStore, worker: str) -> None:
    """Once a minute until cancelled; what the database or the store cannot do now is done later."""
    for turn in itertools.count():
        try:
            await nightly.run(db, settings, worker, utc_now())
            await files.remove_due(db, blobs)
            if turn % _PRUNING_EVERY == 0:
                await notes.prune_changes(db)
        except _AWAY as error:
            log.warning("housekeeping stopped; next try in a minute", error=str(error)[:200])
        await asyncio.sleep(_EVERY_S)
