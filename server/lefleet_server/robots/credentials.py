"""A robot's credential: recognised by its hash, and replaced while the robot works.

A new one is given out beside the old; the first request that carries it ends the old one. So a robot that loses
the answer, or cannot write it down, goes on with what it has and asks again.
"""

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.db import Database
from lefleet_server.robots.models import Robot
from lefleet_server.secret import ROBOT_PREFIX, digest, new_token


async def holder(db: Database, token: str) -> Robot | None:
    """The robot whose credential this is. Its new one, used for the first time, ends the old one here."""
    sent = digest(token)
    query = select(Robot).where(or_(Robot.token_hash == sent, Robot.next_token_hash == sent))
    async with db.session() as session:
        robot = (await session.scalars(query)).one_or_none()
    if robot is not None and robot.next_token_hash == sent:
        await _promote(db, robot.id, sent)
    return robot


async def renew(session: AsyncSession, robot_id: str) -> str:
    """A token to take over; one that was given out before and never used is void."""
    token = new_token(ROBOT_PREFIX)
    await session.execute(
        update(Robot).where(Robot.id == robot_id, Robot.token_hash.is_not(None)).values(next_token_hash=digest(token))
    )
    audit(session, f"robot:{robot_id}", "robot.credential-renewed", f"robot:{robot_id}", {})
    return token


async def _promote(db: Database, robot_id: str, sent: bytes) -> None:
    """By compare-and-swap: of two requests at once one takes over, and both are let in."""
    async with db.transaction() as session:
        swap = update(Robot).where(Robot.id == robot_id, Robot.next_token_hash == sent)
        done = await session.execute(swap.values(token_hash=sent, next_token_hash=None).returning(Robot.id))
        if done.scalar_one_or_none() is not None:
            audit(session, f"robot:{robot_id}", "robot.credential-taken-over", f"robot:{robot_id}", {})
