"""Deleting an episode: the rows at once and together, its files later.

In this order, so that `kill -9` at any step leaves a state that is right: the transaction that deletes the row also
writes the tombstone, the audit entry and which files to look at. Each of those is removed in a transaction that checks
that nothing refers to it, removes the file, and then forgets that it was to be looked at (see deletion.files).
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.db import utc_now
from lefleet_server.deletion import files, holds, tombstones
from lefleet_server.deletion.models import DeletedEpisode
from lefleet_server.episodes.models import Episode
from lefleet_server.jobs.models import Job
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.problems import NotFound


async def delete_episode(
    session: AsyncSession,
    episode_id: str,
    actor: str,
    reason: str,
    grace_s: float,
    still: Callable[[Episode], bool] = lambda _: True,
) -> DeletedEpisode | None:
    """Deletes it in the caller's transaction; None when `still` no longer says so of the locked row.

    Its files go `grace_s` later. Raises NotFound, Gone (deleted already) or Conflict (held).
    """
    sha256 = await session.scalar(select(Episode.sha256).where(Episode.id == episode_id))
    made = select(EpisodePreview.sha256).where(
        EpisodePreview.episode_id == episode_id, EpisodePreview.sha256.is_not(None)
    )
    # A job that is just ending first: it holds its row, and is about to refer to the episode.
    await session.execute(select(Job.id).where(Job.episode_id == episode_id).order_by(Job.id).with_for_update())
    if sha256 is not None:
        await files.lock(session, [sha256])
    # No preview is added meanwhile: its foreign key waits for this lock.
    episode = await session.get(Episode, episode_id, with_for_update=True, populate_existing=True)
    if episode is None:
        raise await _not_there(session, episode_id)
    if not still(episode):
        return None
    await holds.require_none(session, episode)
    derived = [each for each in await session.scalars(made) if each is not None]
    await files.lock(session, derived)
    await files.look_at(session, [episode.sha256, *derived], utc_now() + timedelta(seconds=grace_s))
    tombstone = DeletedEpisode(
        episode_id=episode.id,
        sha256=episode.sha256,
        robot_id=episode.robot_id,
        receipt_id=episode.receipt_id,
        bytes=episode.bytes,
        received_at=episode.received_at,
        deleted_by=actor,
        reason=reason,
    )
    session.add(tombstone)
    audit(session, actor, "episode.deleted", f"episode:{episode.id}", _what(episode) | {"reason": reason})
    await session.execute(delete(Episode).where(Episode.id == episode_id), execution_options=_AS_IT_IS)
    await session.flush()
    return tombstone


_AS_IT_IS = {"synchronize_session": False}


def _what(episode: Episode) -> dict[str, Any]:
    same = ("sha256", "bytes", "robot_id", "result", "label_outcome", "label_note", "task", "policy_repo", "frames")
    return {name: getattr(episode, name) for name in same} | {"started_at": episode.started_at.isoformat()}


async def _not_there(session: AsyncSession, episode_id: str) -> Exception:
    found = await session.get(DeletedEpisode, episode_id)
    return tombstones.gone(found) if found else NotFound(f"no episode {episode_id!r}")
