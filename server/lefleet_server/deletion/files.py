"""Removes stored files that nothing refers to any more. Killed anywhere, the next look goes on: the row goes last."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.db import Database, utc_now
from lefleet_server.deletion.models import BlobRemoval
from lefleet_server.episodes.models import Episode
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.problems import Unavailable
from lefleet_server.storage import BlobStore

log = structlog.get_logger()

_AGAIN = timedelta(minutes=10)
"""After a file that could not be removed; the others do not wait for it."""


async def lock(session: AsyncSession, digests: Sequence[str]) -> None:
    """Until the transaction ends, nobody else begins or ends a reference to these files, or removes them."""
    for sha256 in sorted(set(digests)):
        await session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"file {sha256}"}
        )


async def look_at(session: AsyncSession, digests: Sequence[str], due_at: datetime | None = None) -> None:
    """Has these files looked at when due (now without a time), in the caller's transaction."""
    if not digests:
        return
    rows = [{"sha256": sha256, "due_at": due_at or utc_now()} for sha256 in sorted(set(digests))]
    added = insert(BlobRemoval).values(rows)
    due = func.least(BlobRemoval.due_at, added.excluded.due_at)
    await session.execute(added.on_conflict_do_update(index_elements=["sha256"], set_={"due_at": due}))


async def remove_due(db: Database, blobs: BlobStore) -> int:
    """Removes what is due and superfluous; returns how many files. Several processes may do it at once."""
    removed = 0
    while True:
        async with db.transaction() as session:
            due = select(BlobRemoval.sha256).where(BlobRemoval.due_at <= func.now())
            one = due.order_by(BlobRemoval.due_at, BlobRemoval.sha256).limit(1).with_for_update(skip_locked=True)
            sha256 = await session.scalar(one)
            if sha256 is None:
                return removed
            removed += await _remove(session, blobs, sha256)


async def _remove(session: AsyncSession, blobs: BlobStore, sha256: str) -> bool:
    await lock(session, [sha256])
    row = BlobRemoval.sha256 == sha256
    used = await is_used(session, sha256)
    if not used:
        try:
            await blobs.remove(sha256)
        except (Unavailable, OSError) as error:
            log.warning("superfluous file not removed; next try in 10 minutes", sha256=sha256, error=str(error)[:200])
            await session.execute(update(BlobRemoval).where(row).values(due_at=func.now() + _AGAIN))
            return False
        log.info("superfluous file removed", sha256=sha256)
    await session.execute(delete(BlobRemoval).where(row))
    return not used


async def is_used(session: AsyncSession, sha256: str) -> bool:
    """Whether an episode's or a preview's row names the file."""
    named = exists().where(Episode.sha256 == sha256), exists().where(EpisodePreview.sha256 == sha256)
    return bool(await session.scalar(select(named[0] | named[1])))


async def is_watched(session: AsyncSession, sha256: str) -> bool:
    """Whether the file will be looked at."""
    return await session.get(BlobRemoval, sha256) is not None
