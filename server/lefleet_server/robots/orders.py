"""What people order from afar, beside stops: that a robot rests after its episode, and what it is to do.

A robot remembers by number what it obeyed, and obeys what is newer, whatever it rested for or did meanwhile.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from lefleet_server.audit.service import audit
from lefleet_server.problems import Conflict
from lefleet_server.robots.models import Robot, RobotOrder, RobotStatus
from lefleet_server.robots.words import clock_us, robot_of


class Kind(StrEnum):
    REST = "rest"
    """It begins no other episode."""
    TASK = "task"
    """What its policy is asked to do, from its next episode on."""


def newest(kind: Kind) -> tuple[type[RobotOrder], ColumnElement[bool]]:
    """For an outer join of robots: the table under a name of its own, and its condition."""
    order = aliased(RobotOrder)
    return order, and_(order.robot_id == Robot.id, order.kind == kind.value)


def heard(order: RobotOrder, heartbeat: dict[str, Any] | None) -> bool:
    """Whether the robot said that it obeyed this word, or a newer one."""
    return int(told(heartbeat).get(order.kind, 0)) >= order.number


def told(heartbeat: dict[str, Any] | None) -> dict[str, Any]:
    """What the robot said of orders (see robots.schemas.OrdersTold); empty where it takes none."""
    return (heartbeat or {}).get("orders") or {}


async def say(
    session: AsyncSession, actor: str, robot_id: str, kind: Kind, value: bool | str | None, reason: str = ""
) -> RobotOrder:
    """The newest word. Raises NotFound, and Conflict for a retired robot, which nobody reaches."""
    robot = await robot_of(session, robot_id)
    if robot.token_hash is None:
        raise Conflict(f"{robot_id} is retired: its credential was revoked, so it hears nothing")
    status = await session.get(RobotStatus, robot_id)
    obeyed = told(status.heartbeat if status else None).get(kind.value, 0)
    # The time is above every number there was, the heartbeat is where a clock was put back.
    new = insert(RobotOrder).values(
        robot_id=robot_id,
        kind=kind.value,
        number=func.greatest(clock_us(), obeyed + 1),
        value=value,
        said_by=actor,
        reason=reason,
    )
    changes = {
        "number": func.greatest(RobotOrder.number + 1, new.excluded.number),
        "value": new.excluded.value,
        "said_by": new.excluded.said_by,
        "said_at": func.now(),
        "reason": new.excluded.reason,
    }
    said = new.on_conflict_do_update(index_elements=["robot_id", "kind"], set_=changes).returning(RobotOrder)
    order = (await session.scalars(said, execution_options={"populate_existing": True})).one()
    audit(
        session,
        actor,
        f"robot.{kind.value}",
        f"robot:{robot_id}",
        {kind.value: value} | ({"reason": reason} if reason else {}),
    )
    return order
