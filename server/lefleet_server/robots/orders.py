"""What people order from afar, beside stops: that a robot rests after its episode, what it is to do, a reboot.

A robot remembers by number what it obeyed, and obeys what is newer, whatever it rested for or did meanwhile.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.db import is_near
from lefleet_server.problems import Conflict
from lefleet_server.robots.models import RobotOrder, RobotStatus
from lefleet_server.robots.words import clock_us, robot_of


class Kind(StrEnum):
    REST = "rest"
    """It begins no other episode."""
    TASK = "task"
    """What its policy is asked to do, from its next episode on."""
    REBOOT = "reboot"
    """Its host starts anew, after the episode that runs: once, and only soon after somebody asked."""


REBOOT_VOID_AFTER = timedelta(minutes=10)
"""A robot that hears of a reboot later does not reboot: whoever asked is no longer beside it."""

Standing = Mapping[Kind, RobotOrder]
"""The newest word of each kind about one robot."""


async def standing(
    session: AsyncSession, robot_ids: Collection[str] | None = None, to_obey: bool = False
) -> Mapping[str, Standing]:
    """By robot, those who have any; of all robots unless some are named. `to_obey`: without what is void by its age."""
    query = select(RobotOrder).where(RobotOrder.kind.in_(Kind))
    if robot_ids is not None:
        query = query.where(RobotOrder.robot_id.in_(robot_ids))
    if to_obey:
        fresh = is_near(RobotOrder.said_at, REBOOT_VOID_AFTER)
        query = query.where(or_(RobotOrder.kind != Kind.REBOOT.value, fresh))
    found: dict[str, dict[Kind, RobotOrder]] = defaultdict(dict)
    for order in await session.scalars(query):
        found[order.robot_id][Kind(order.kind)] = order
    return found


def heard(order: RobotOrder, heartbeat: dict[str, Any] | None) -> bool:
    """Whether the robot said that it obeyed this word, or a newer one."""
    return int(told(heartbeat).get(order.kind) or 0) >= order.number


def told(heartbeat: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What the robot said of orders (see robots.schemas.OrdersTold); empty where it takes none."""
    return (heartbeat or {}).get("orders") or {}


def retired(robot_id: str) -> str:
    """Why no order reaches such a robot."""
    return f"{robot_id} is retired: its credential was revoked, so it hears nothing"


async def say(
    session: AsyncSession, actor: str, robot_id: str, kind: Kind, value: bool | str | None, reason: str = ""
) -> RobotOrder:
    """The newest word. Raises NotFound, and Conflict for a retired robot, which nobody reaches."""
    robot = await robot_of(session, robot_id)
    if robot.token_hash is None:
        raise Conflict(retired(robot_id))
    status = await session.get(RobotStatus, robot_id)
    obeyed = told(status.heartbeat if status else None).get(kind.value) or 0
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
