"""One episode's analysis as a job: asked of a confined process, stored with the end of the job."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server import previews
from lefleet_server.analysis import QUEUE, VERSION
from lefleet_server.analysis.models import EpisodeAnalysis
from lefleet_server.audit.service import audit
from lefleet_server.db import Database, utc_now
from lefleet_server.episodes import bounded
from lefleet_server.episodes.models import Episode
from lefleet_server.jobs import queue
from lefleet_server.jobs.backlog import Work
from lefleet_server.jobs.models import Job
from lefleet_server.jobs.queue import Claimed
from lefleet_server.jobs.worker import Store
from lefleet_server.problems import NotFound
from lefleet_server.storage import BlobStore

_PROCESS = "lefleet_server.analysis.process"


class Analyser:
    """The handler of the queue `analysis`. A wrong file is a result (quarantined), not a failure of the job.

    Called it raises LateError or EndedEarlyError for what says nothing about the file, and is tried again.
    """

    def __init__(self, db: Database, blobs: BlobStore, timeout_s: float) -> None:
        self._db, self._blobs, self._timeout_s = db, blobs, timeout_s

    async def __call__(self, job: Claimed) -> Store:
        async with self._db.session() as session:
            sha256 = await session.scalar(select(Episode.sha256).where(Episode.id == job.episode_id))
        if sha256 is None:
            raise LookupError(f"no episode {job.episode_id}")
        async with self._blobs.local(sha256) as path:
            row = _row(await bounded.judge(_PROCESS, path, timeout_s=self._timeout_s))

        async def store(session: AsyncSession) -> None:
            values = {"episode_id": job.episode_id, "version": VERSION, "analysed_at": utc_now()} | row
            added = insert(EpisodeAnalysis).values(values)
            # A worker of an older release that comes late must not undo what a newer one found.
            newer = EpisodeAnalysis.version <= added.excluded.version
            changed = added.on_conflict_do_update(index_elements=["episode_id"], set_=values, where=newer)
            await session.execute(changed)
            if row["state"] == "analysed":
                wanted = previews.QUEUE, [job.episode_id], previews.VERSION, previews.PRIORITY
                await queue.enqueue(session, *wanted)

        return store


def older(version: int = VERSION) -> Work:
    """The analysis of episodes that have none of `version` or newer."""
    has = exists().where(EpisodeAnalysis.episode_id == Episode.id, EpisodeAnalysis.version >= version)
    return Work(QUEUE, version, ~has)


async def check_again(session: AsyncSession, actor: str, episode_id: str) -> None:
    """Queues one episode's analysis, before those that are done over; what was found stays until a worker is done.

    Raises NotFound. A job for it that was given up gets all its attempts again.
    """
    if await session.get(Episode, episode_id) is None:
        raise NotFound(f"no episode {episode_id!r}")
    if not await queue.enqueue(session, QUEUE, [episode_id], VERSION):
        dead = select(Job.id).where(Job.queue == QUEUE, Job.episode_id == episode_id, Job.state == "dead")
        await queue.retry_dead(session, (await session.scalars(dead)).all())
    audit(session, actor, "episode.check-asked", f"episode:{episode_id}", {"version": VERSION})


async def resume(session: AsyncSession, episode_id: str) -> None:
    """For an episode whose file is back: what was given up is tried again, and it is analysed if it never was."""
    mine = Job.queue.in_([QUEUE, previews.QUEUE]), Job.episode_id == episode_id, Job.state == "dead"
    # One that a deletion has locked goes with its episode; the deletion may wait for our lock of the file.
    dead = select(Job.id).where(*mine).with_for_update(skip_locked=True)
    await queue.retry_dead(session, (await session.scalars(dead)).all())
    if await session.get(EpisodeAnalysis, episode_id) is None:
        await queue.enqueue(session, QUEUE, [episode_id], VERSION)


async def of_episodes(session: AsyncSession, ids: Sequence[str]) -> dict[str, EpisodeAnalysis]:
    """Those that are there."""
    found = await session.scalars(select(EpisodeAnalysis).where(EpisodeAnalysis.episode_id.in_(ids)))
    return {each.episode_id: each for each in found}


def _row(found: dict[str, Any]) -> dict[str, Any]:
    if "error" in found:
        # What a file made a library say may hold what PostgreSQL does not store.
        reason = str(found["error"]).replace("\x00", "").encode("utf-8", "replace").decode()
        return {"state": "quarantined", "reason": reason, "flags": [], "statistics": {}}
    return {"state": "analysed", "reason": None, "flags": found["flags"], "statistics": found["statistics"]}
