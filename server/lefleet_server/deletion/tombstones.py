"""What the server still knows of deleted episodes."""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.deletion.models import DeletedEpisode
from lefleet_server.problems import Conflict, Gone

KIND = "episode-deleted"


async def of_episode(session: AsyncSession, episode_id: str) -> DeletedEpisode | None:
    return await session.get(DeletedEpisode, episode_id)


async def of_bytes(session: AsyncSession, sha256: str, robot_id: str | None = None) -> DeletedEpisode | None:
    """The deleted episode with these bytes; with `robot_id` only that robot's."""
    query = select(DeletedEpisode).where(DeletedEpisode.sha256 == sha256)
    if robot_id is not None:
        query = query.where(DeletedEpisode.robot_id == robot_id)
    return (await session.scalars(query)).one_or_none()


async def of_any(session: AsyncSession, sha256: str, episode_id: str) -> DeletedEpisode | None:
    """The deleted episode with these bytes or this id."""
    same = or_(DeletedEpisode.sha256 == sha256, DeletedEpisode.episode_id == episode_id)
    return (await session.scalars(select(DeletedEpisode).where(same).limit(1))).one_or_none()


async def digests(session: AsyncSession, robot_id: str, among: Sequence[str]) -> set[str]:
    """Those of these SHA-256s that were the robot's and are deleted."""
    mine = DeletedEpisode.robot_id == robot_id, DeletedEpisode.sha256.in_(among)
    return set(await session.scalars(select(DeletedEpisode.sha256).where(*mine)))


def gone(found: DeletedEpisode) -> Gone:
    """For people who ask for it."""
    return Gone(f"episode {found.episode_id} {_words(found)}")


def refused(found: DeletedEpisode, sha256: str) -> Conflict:
    """For a robot that offers it again: the same bytes need not be kept, other ones under its id are not taken."""
    if found.sha256 != sha256:
        message = f"episode {found.episode_id} {_words(found)}, and was another file; one episode is one file"
        return Conflict(message, fields=[("episode_id", "is another file, deleted")], kind="episode-exists")
    receipt = f"GET /api/v1/robot/receipts/{found.sha256} says so; the robot's copy may be deleted"
    return Conflict(f"episode {found.episode_id} {_words(found)}. {receipt}", kind=KIND)


def _words(found: DeletedEpisode) -> str:
    return f"was deleted by {found.deleted_by} on {found.deleted_at:%Y-%m-%d}: {found.reason}"
