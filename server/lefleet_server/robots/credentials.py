"""A robot's credential: recognised by its hash, and replaced while the robot works.

A new one is given out beside the old; the first request that carries it ends the old one. So a robot that loses
the answer, or cannot write it down, goes on with what it has and asks again.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.models import AuditEntry
from lefleet_server.audit.service import audit
from lefleet_server.db import Database, is_near, utc_now
from lefleet_server.problems import NotFound, TooMany
from lefleet_server.robots.models import EnrolmentCode, Robot, RobotStatus
from lefleet_server.robots.words import robot_of
from lefleet_server.secret import ROBOT_PREFIX, digest, new_token

MOST_RENEWALS, RENEWALS_SPAN = 10, timedelta(minutes=10)
"""One a minute, and several at once for a robot that lost the answer: each stays in the audit log for ever."""
_RENEWED, _TAKEN_OVER = "robot.credential-renewed", "robot.credential-taken-over"


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a robot's credential; nothing of it lets anybody in."""

    since: datetime | None
    """When it came into use; None: the robot has none."""
    used_at: datetime | None
    """Of the last heartbeat with it; None: it brought none yet."""
    renewed_at: datetime | None
    """When the robot was given the next one, which it has not used yet; None: it was given none."""
    code_until: datetime | None
    """Until when a one-time code brings the robot another one; None: no code does."""


async def standing(session: AsyncSession, robot_id: str) -> Standing:
    """Raises NotFound."""
    robots = select(Robot, RobotStatus.received_at).outerjoin(RobotStatus, RobotStatus.robot_id == Robot.id)
    row = (await session.execute(robots.where(Robot.id == robot_id))).one_or_none()
    if row is None:
        raise NotFound(f"no robot {robot_id!r}")
    robot, heard_at = row
    codes = select(func.max(EnrolmentCode.expires_at)).where(EnrolmentCode.robot_id == robot_id)
    until = await session.scalar(codes.where(EnrolmentCode.used_at.is_(None), EnrolmentCode.expires_at > utc_now()))
    if robot.token_hash is None:
        return Standing(None, None, None, until)
    since = max(filter(None, (robot.enrolled_at, await _last(session, robot, _TAKEN_OVER))))
    renewed_at = await _last(session, robot, _RENEWED) if robot.next_token_hash is not None else None
    return Standing(since, heard_at if heard_at and heard_at >= since else None, renewed_at, until)


async def _last(session: AsyncSession, robot: Robot, action: str) -> datetime | None:
    """When this was done to the robot last, since it enrolled."""
    done = select(AuditEntry.at).where(AuditEntry.subject == f"robot:{robot.id}", AuditEntry.action == action)
    recent = done.where(AuditEntry.at >= robot.enrolled_at).order_by(AuditEntry.at.desc())
    at: datetime | None = await session.scalar(recent.limit(1))
    return at


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
    """A token to take over; one that was given out before and never used is void. Raises TooMany."""
    await robot_of(session, robot_id, lock=True)  # of two at once, the second counts the first's
    await _require_seldom(session, robot_id)
    token = new_token(ROBOT_PREFIX)
    await session.execute(
        update(Robot).where(Robot.id == robot_id, Robot.token_hash.is_not(None)).values(next_token_hash=digest(token))
    )
    audit(session, f"robot:{robot_id}", _RENEWED, f"robot:{robot_id}", {})
    return token


async def _require_seldom(session: AsyncSession, robot_id: str) -> None:
    ours = AuditEntry.subject == f"robot:{robot_id}", AuditEntry.action == _RENEWED
    wait = AuditEntry.at + RENEWALS_SPAN - func.now()
    many = select(wait).where(*ours, is_near(AuditEntry.at, RENEWALS_SPAN)).order_by(AuditEntry.at.desc())
    left: timedelta | None = await session.scalar(many.offset(MOST_RENEWALS - 1).limit(1))
    if left is not None:
        raise TooMany(
            f"robot {robot_id} was given {MOST_RENEWALS} credentials within {RENEWALS_SPAN // timedelta(minutes=1)} "
            "minutes; use the newest, or ask again later",
            headers={"Retry-After": str(math.ceil(left.total_seconds()))},
        )


async def _promote(db: Database, robot_id: str, sent: bytes) -> None:
    """By compare-and-swap: of two requests at once one takes over, and both are let in."""
    async with db.transaction() as session:
        swap = update(Robot).where(Robot.id == robot_id, Robot.next_token_hash == sent)
        done = await session.execute(swap.values(token_hash=sent, next_token_hash=None).returning(Robot.id))
        if done.scalar_one_or_none() is not None:
            audit(session, f"robot:{robot_id}", _TAKEN_OVER, f"robot:{robot_id}", {})
