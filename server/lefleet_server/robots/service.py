"""Robots: enrolment, and what people see of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.db import is_near, utc_now
from lefleet_server.episodes.models import Upload
from lefleet_server.problems import Conflict, Forbidden, NotFound
from lefleet_server.robots import orders, stops
from lefleet_server.robots.models import (
    EnrolmentCode,
    Robot,
    RobotCamera,
    RobotStatus,
    RobotStop,
    RobotVerdict,
)
from lefleet_server.secret import ROBOT_PREFIX, digest, new_code, new_token


@dataclass(frozen=True, slots=True)
class RobotView:
    """A robot as people see it: who it is, its last heartbeat, and whether that is recent."""

    robot: Robot
    status: RobotStatus | None
    """None until the first heartbeat."""
    online: bool
    cameras: tuple[str, ...]
    """Cameras of which a picture is stored, sorted."""
    word: RobotStop | None
    """What people said last about its emergency stop."""
    said: RobotVerdict | None
    """What people said last about an episode of it."""
    orders: orders.Standing
    now: datetime
    """When this was read, by the database's clock, which stamps heartbeats and words."""

    @property
    def heartbeat(self) -> dict[str, Any] | None:
        """The last one as sent, without its metrics; None until the first."""
        return self.status.heartbeat if self.status else None

    @property
    def received_at(self) -> datetime | None:
        """When the last heartbeat came; None until the first."""
        return self.status.received_at if self.status else None

    @property
    def retired(self) -> bool:
        """Its credential was revoked; a new enrolment brings it back."""
        return self.robot.token_hash is None

    @property
    def state(self) -> str:
        """`retired`, `offline` once three heartbeats are missed, else what the robot said."""
        if self.retired:
            return "retired"
        return self.status.state if self.online and self.status else "offline"

    @property
    def stop(self) -> stops.Stop:
        """The emergency stop that people asked for, and how far it has got."""
        return stops.seen(self.word, self.heartbeat)

    @property
    def episode_id(self) -> str | None:
        """The episode that runs, while the robot is heard."""
        return self.status.episode_id if self.online and self.status else None

    @property
    def verdict(self) -> RobotVerdict | None:
        """What somebody said about the episode that still runs."""
        return self.said if self.said and self.said.episode_id == self.episode_id else None


async def create_enrolment_code(session: AsyncSession, robot_id: str, site: str, ttl_s: int, actor: str) -> str:
    """A code that turns into this robot's credential once, within `ttl_s`."""
    code = new_code()
    expires_at = utc_now() + timedelta(seconds=ttl_s)
    session.add(EnrolmentCode(code_hash=digest(code), robot_id=robot_id, site=site, expires_at=expires_at))
    audit(session, actor, "robot.enrolment-code", f"robot:{robot_id}", {"site": site})
    return code


async def register(session: AsyncSession, robot_id: str, site: str, ttl_s: int, actor: str) -> str:
    """Such a code for a robot that is new or retired. Raises Conflict for one that has a credential."""
    robot = await session.get(Robot, robot_id)
    if robot is not None and robot.token_hash is not None:
        raise Conflict(
            f"a robot named {robot_id} is enrolled already; choose another name, or rotate its credential on its page"
        )
    return await create_enrolment_code(session, robot_id, site, ttl_s, actor)


async def code_of_known(session: AsyncSession, robot_id: str, ttl_s: int, actor: str) -> str:
    """Such a code for a robot that is known, at the site where it is. Raises NotFound."""
    robot = await session.get(Robot, robot_id)
    if robot is None:
        raise NotFound(f"no robot {robot_id!r}")
    return await create_enrolment_code(session, robot_id, robot.site, ttl_s, actor)


async def enrol(session: AsyncSession, code: str, robot_id: str, agent_version: str, hw: str) -> str:
    """Spends the code and returns the robot's new token; a token it had before stops working.

    Raises Forbidden when the code is unknown, used, expired or meant for another robot, without saying which.
    """
    now = utc_now()
    spend = (
        update(EnrolmentCode)
        .where(EnrolmentCode.code_hash == digest(code), EnrolmentCode.robot_id == robot_id)
        .where(EnrolmentCode.used_at.is_(None), EnrolmentCode.expires_at > now)
        .values(used_at=now)
        .returning(EnrolmentCode.site)
    )
    site = (await session.execute(spend)).scalar_one_or_none()
    if site is None:
        raise Forbidden(
            f"this code does not enrol {robot_id} (wrong, used or expired); "
            f"make a new one with `lefleet-server enrol-code {robot_id}`",
            fields=[("code", "not valid for this robot now")],
        )
    token = new_token(ROBOT_PREFIX)
    values = {
        "site": site,
        "token_hash": digest(token),
        "next_token_hash": None,
        "hw": hw,
        "agent_version": agent_version,
        "enrolled_at": now,
    }
    await session.execute(
        insert(Robot).values(id=robot_id, **values).on_conflict_do_update(index_elements=["id"], set_=values)
    )
    audit(session, f"robot:{robot_id}", "robot.enrolled", f"robot:{robot_id}", {"site": site, "hw": hw})
    return token


async def revoke(session: AsyncSession, robot_id: str, actor: str) -> bool:
    """Takes the robot's credential away at once, ends its open uploads and the codes that would bring it back.

    Its episodes stay, and so does the robot, as `retired`, until a new code enrols it. False when it was retired
    already. Raises NotFound.
    """
    if await session.get(Robot, robot_id) is None:
        raise NotFound(f"no robot {robot_id!r}; `lefleet-server robots` lists them")
    take = (
        update(Robot)
        .where(Robot.id == robot_id, Robot.token_hash.is_not(None))
        .values(token_hash=None, next_token_hash=None)
    )
    taken = (await session.execute(take.returning(Robot.id))).scalar_one_or_none() is not None
    await session.execute(delete(Upload).where(Upload.robot_id == robot_id))
    codes = update(EnrolmentCode).where(EnrolmentCode.robot_id == robot_id, EnrolmentCode.used_at.is_(None))
    await session.execute(codes.values(used_at=utc_now()))
    if taken:
        audit(session, actor, "robot.revoked", f"robot:{robot_id}", {})
    return taken


@dataclass(frozen=True, slots=True)
class RobotPage:
    items: Sequence[RobotView]
    """By name."""
    next_cursor: str | None
    """Give it back to get the next page; None on the last."""


async def list_robots(session: AsyncSession, offline_after_s: float) -> Sequence[RobotView]:
    """Every robot, by name."""
    return await _views(session, offline_after_s)


async def robot_page(
    session: AsyncSession,
    offline_after_s: float,
    state: str | None = None,
    site: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> RobotPage:
    """Robots of this state and site after the one named `cursor`, at most `limit`; None restricts nothing."""
    asked: list[ColumnElement[bool]] = []
    if state is not None:
        asked.append(_state(offline_after_s) == state)
    if site is not None:
        asked.append(Robot.site == site)
    if cursor is not None:
        asked.append(Robot.id > cursor)
    if limit is None:
        return RobotPage(await _views(session, offline_after_s, *asked), None)
    found = await _views(session, offline_after_s, *asked, limit=limit + 1)
    return RobotPage(found[:limit], found[limit - 1].robot.id if len(found) > limit else None)


async def get_robot(session: AsyncSession, robot_id: str, offline_after_s: float) -> RobotView:
    found = await _views(session, offline_after_s, Robot.id == robot_id)
    if not found:
        raise NotFound(f"no robot {robot_id!r}")
    return found[0]


async def count(session: AsyncSession, offline_after_s: float) -> dict[tuple[str, str], int]:
    """How many robots there are by (state, site): states as `RobotView.state` has them."""
    state = _state(offline_after_s)
    query = select(state, Robot.site, func.count()).outerjoin(RobotStatus, RobotStatus.robot_id == Robot.id)
    rows = await session.execute(query.group_by(state, Robot.site))
    return {(state, site): number for state, site, number in rows}


def _state(offline_after_s: float) -> ColumnElement[str]:
    """`RobotView.state` in SQL."""
    online = is_near(RobotStatus.received_at, timedelta(seconds=offline_after_s))
    return case((Robot.token_hash.is_(None), "retired"), (online, RobotStatus.state), else_="offline")


def is_online(received_at: datetime | None, now: datetime, offline_after_s: float) -> bool:
    """Whether the last heartbeat is younger than three intervals, and not of a time to come: a clock was ahead then."""
    return received_at is not None and abs((now - received_at).total_seconds()) <= offline_after_s


async def _views(
    session: AsyncSession, offline_after_s: float, *asked: ColumnElement[bool], limit: int | None = None
) -> list[RobotView]:
    cameras = (
        select(func.array_agg(RobotCamera.name))
        .where(RobotCamera.robot_id == Robot.id)
        .correlate(Robot)
        .scalar_subquery()
    )
    query = (
        select(Robot, RobotStatus, cameras, RobotStop, RobotVerdict, func.now())
        .outerjoin(RobotStatus, RobotStatus.robot_id == Robot.id)
        .outerjoin(RobotStop, RobotStop.robot_id == Robot.id)
        .outerjoin(RobotVerdict, RobotVerdict.robot_id == Robot.id)
        .where(*asked)
        .order_by(Robot.id)
        .limit(limit)
    )
    rows = (await session.execute(query)).all()
    names = [row[0].id for row in rows]
    # Of a few by name; of all at once, since a statement takes only so many names.
    ordered = await orders.standing(session, names if limit is not None or len(names) <= 1 else None)
    # The database's clock stamped the heartbeat, so the database's clock measures its age.
    return [
        RobotView(
            robot,
            status,
            robot.token_hash is not None and is_online(status.received_at if status else None, now, offline_after_s),
            tuple(sorted(names or ())),
            word,
            said,
            ordered.get(robot.id, {}),
            now,
        )
        for robot, status, names, word, said, now in rows
    ]
