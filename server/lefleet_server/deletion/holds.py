"""Legal holds: what nothing deletes, whoever asks."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.deletion.models import LegalHold
from lefleet_server.episodes.models import Episode
from lefleet_server.keyset import Page, read_page
from lefleet_server.problems import Conflict, NotFound
from lefleet_server.robots.models import Robot
from lefleet_server.robots.words import robot_of


async def place_on_episode(session: AsyncSession, episode_id: str, actor: str, reason: str) -> LegalHold:
    """Takes effect with the caller's commit; a hold that is there stays and gets the new reason."""
    # The lock that a deletion takes too: whichever is first wins, and the other one sees it.
    if await session.get(Episode, episode_id, with_for_update=True) is None:
        raise NotFound(f"no episode {episode_id!r}")
    where = LegalHold.episode_id == episode_id
    found = (await session.scalars(select(LegalHold).where(where))).one_or_none()
    return await _place(session, found or LegalHold(episode_id=episode_id), actor, reason)


async def place_on_robot(session: AsyncSession, robot_id: str, actor: str, reason: str) -> LegalHold:
    """All its episodes, those to come included."""
    await robot_of(session, robot_id, lock=True)
    where = LegalHold.robot_id == robot_id
    found = (await session.scalars(select(LegalHold).where(where))).one_or_none()
    return await _place(session, found or LegalHold(robot_id=robot_id), actor, reason)


async def release_episode(session: AsyncSession, episode_id: str, actor: str) -> None:
    await _release(session, LegalHold.episode_id == episode_id, f"episode:{episode_id}", actor)


async def release_robot(session: AsyncSession, robot_id: str, actor: str) -> None:
    await _release(session, LegalHold.robot_id == robot_id, f"robot:{robot_id}", actor)


async def list_holds(session: AsyncSession, limit: int, cursor: int | None = None) -> Page[LegalHold]:
    """Newest first."""
    return await read_page(session, select(LegalHold), LegalHold.id, limit, cursor)


async def of_episode(session: AsyncSession, episode: Episode) -> Sequence[LegalHold]:
    """Its own and its robot's, oldest first."""
    held = (LegalHold.episode_id == episode.id) | (LegalHold.robot_id == episode.robot_id)
    return (await session.scalars(select(LegalHold).where(held).order_by(LegalHold.id))).all()


async def of_robot(session: AsyncSession, robot_id: str) -> Sequence[LegalHold]:
    """The one on all its episodes, or none; those on single episodes are not looked at."""
    return (await session.scalars(select(LegalHold).where(LegalHold.robot_id == robot_id))).all()


async def require_none(session: AsyncSession, episode: Episode) -> None:
    """Raises Conflict when the episode, or its robot, is held. Holds that are being placed are waited for."""
    # Not FOR SHARE: heartbeats change nothing that this lock keeps, only placing a hold waits for it.
    robot = select(Robot.id).where(Robot.id == episode.robot_id)
    await session.execute(robot.with_for_update(read=True, key_share=True))
    for found in await of_episode(session, episode):
        held = subject(found).replace(":", " ")
        raise Conflict(
            f"{held} is under a legal hold since {found.placed_at:%Y-%m-%d} ({found.reason}); "
            "an administrator can release it first",
            kind="held",
        )


def subject(hold: LegalHold) -> str:
    return f"episode:{hold.episode_id}" if hold.episode_id is not None else f"robot:{hold.robot_id}"


async def _place(session: AsyncSession, hold: LegalHold, actor: str, reason: str) -> LegalHold:
    if hold.id is None or hold.reason != reason:
        hold.reason, hold.placed_by = reason, actor
        session.add(hold)
        audit(session, actor, "hold.placed", subject(hold), {"reason": reason})
        await session.flush()
        await session.refresh(hold)
    return hold


async def _release(session: AsyncSession, where: object, named: str, actor: str) -> None:
    ended = delete(LegalHold).where(where).returning(LegalHold.reason)  # type: ignore[arg-type]
    reason = (await session.execute(ended)).scalar_one_or_none()
    if reason is None:
        raise NotFound(f"{named} is under no legal hold of its own")
    audit(session, actor, "hold.released", named, {"reason": reason})
