"""Emergency stops that people ask for from afar: the newest word about each robot, and how far it has got."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, cast, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.problems import Conflict
from lefleet_server.robots.models import Robot, RobotStatus, RobotStop
from lefleet_server.robots.words import clock_us, robot_of

NUMBER_MAX = (1 << 53) - 1
"""JSON's readers keep integers exact up to here; microseconds since 1970 get there in the year 2255."""


class StopState(StrEnum):
    """How far the newest word about an emergency stop has got."""

    FREE = "free"
    STOPPING = "stopping"
    """Asked for; the robot has not yet said that its arm holds still."""
    STOPPED = "stopped"
    RELEASING = "releasing"


@dataclass(frozen=True, slots=True)
class Stop:
    """A robot's emergency stop as people see it. Stops that were asked for at the robot itself are not in it."""

    state: StopState
    number: int = 0
    """Of the newest word; 0 while there is none. Whoever releases names what they saw."""
    asked_by: str | None = None
    asked_at: datetime | None = None


def seen(word: RobotStop | None, heartbeat: dict[str, Any] | None) -> Stop:
    """What people asked for, compared with what the robot said last."""
    said = heartbeat or {}
    told: dict[str, Any] = said.get("estop") or {}
    obeyed, holds = told.get("wish", 0), told.get("holds", False)
    still = holds and said.get("state") == "estopped"
    if word is None:
        # The robot holds what this server does not know of: it was restored from a backup.
        return Stop(StopState.STOPPED if holds else StopState.FREE)
    state = _wanted(word.number <= obeyed, holds, still) if word.wanted else _released(word.number <= obeyed, holds)
    return Stop(state, word.number, word.asked_by, word.asked_at)


def _wanted(obeyed: bool, holds: bool, still: bool) -> StopState:
    if obeyed and not holds:
        return StopState.FREE  # somebody beside the robot cleared it
    return StopState.STOPPED if obeyed and still else StopState.STOPPING


def _released(obeyed: bool, holds: bool) -> StopState:
    if not holds:
        return StopState.FREE
    # One that the robot knows as newest and yet holds was restored: it needs another release.
    return StopState.STOPPED if obeyed else StopState.RELEASING


async def stop(session: AsyncSession, actor: str, robot_id: str) -> None:
    """Wants the robot to hold still. Raises NotFound, and Conflict for a retired robot, which nobody reaches."""
    robot = await robot_of(session, robot_id)
    if robot.token_hash is None:
        raise Conflict(f"{robot_id} is retired: its credential was revoked; stop it at the robot")
    await _say(session, actor, True, Robot.id == robot_id)


async def stop_all(session: AsyncSession, actor: str) -> Sequence[str]:
    """Wants every robot that is not retired to hold still; returns which."""
    return await _say(session, actor, True, Robot.token_hash.is_not(None))


async def release(session: AsyncSession, actor: str, robot_id: str, number: int) -> None:
    """Ends the stop that the person saw, by its number. Raises NotFound, Conflict when there is a newer word."""
    await robot_of(session, robot_id)
    if not await _say(session, actor, False, Robot.id == robot_id, RobotStop.number == number):
        word = await session.get_one(RobotStop, robot_id)
        raise Conflict(
            f"{word.asked_by} spoke about {robot_id} at {word.asked_at:%H:%M:%S} UTC, after what you saw "
            f"({number}); look again, then release {word.number}"
        )


async def _say(
    session: AsyncSession,
    actor: str,
    wanted: bool,
    which: ColumnElement[bool],
    only_if: ColumnElement[bool] | None = None,
) -> Sequence[str]:
    """The newest word about these robots, where `only_if` holds of the one before; returns whom it is about."""
    words = (
        select(Robot.id, _newest(), literal(wanted), literal(actor))
        .outerjoin(RobotStatus, RobotStatus.robot_id == Robot.id)
        .where(which)
        .order_by(Robot.id)  # two people at once must not wait for each other in a circle
    )
    new = insert(RobotStop).from_select(["robot_id", "number", "wanted", "asked_by"], words)
    changes = {
        "number": func.greatest(RobotStop.number + 1, new.excluded.number),
        "wanted": new.excluded.wanted,
        "asked_by": new.excluded.asked_by,
        "asked_at": func.now(),
    }
    said = new.on_conflict_do_update(index_elements=["robot_id"], set_=changes, where=only_if)
    rows = (await session.execute(said.returning(RobotStop.robot_id, RobotStop.number))).all()
    for robot_id, number in rows:
        audit(session, actor, "robot.estop" if wanted else "robot.estop-release", f"robot:{robot_id}", {"wish": number})
    return [robot_id for robot_id, _ in rows]


def _newest() -> ColumnElement[int]:
    """Above every number that this robot has obeyed, also when the database was restored from before them.

    The time does that where no heartbeat has come since, the heartbeat where the clock was put back.
    """
    obeyed = cast(RobotStatus.heartbeat["estop"]["wish"].astext, BigInteger)
    return func.greatest(clock_us(), func.coalesce(obeyed, 0) + 1)
