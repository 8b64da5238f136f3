"""Reboots of robots' hosts that people ask for from afar: who may be asked, and how far the newest has got.

A host reboots once for each word: its robot keeps the word's number on its disk before it asks the host, and hears of
no word that is older than ten minutes.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.problems import Conflict
from lefleet_server.robots import orders, service
from lefleet_server.robots.models import RobotOrder
from lefleet_server.robots.service import RobotView
from lefleet_server.robots.words import robot_of


class RebootState(StrEnum):
    """How far the newest word about a reboot has got."""

    ASKED = "asked"
    """The robot has not said yet that it heard."""
    VOID = "void"
    """It did not hear in time, and will not obey."""
    HEARD = "heard"
    """Its host stops the robot, which ends its episode first, and starts anew."""
    DONE = "done"
    """Its host started since."""


def state(
    order: RobotOrder, heartbeat: dict[str, Any] | None, received_at: datetime | None, now: datetime
) -> RebootState:
    """`now` and `received_at` by the database's clock, as the word's own time is."""
    if not orders.heard(order, heartbeat):
        return RebootState.VOID if _is_void(order, now) else RebootState.ASKED
    started = started_at(heartbeat, received_at)
    return RebootState.DONE if started and started > order.said_at else RebootState.HEARD


def _is_void(order: RobotOrder, now: datetime) -> bool:
    """By its age; one of a time to come was said by a clock that was ahead."""
    return abs(now - order.said_at) > orders.REBOOT_VOID_AFTER


def started_at(heartbeat: dict[str, Any] | None, received_at: datetime | None) -> datetime | None:
    """When the robot's host started; None where the robot does not say."""
    up_s = (heartbeat or {}).get("uptime_s")
    return None if up_s is None or received_at is None else received_at - timedelta(seconds=up_s)


def takes(heartbeat: Mapping[str, Any] | None) -> bool:
    """Whether the robot said that its host obeys."""
    return orders.told(heartbeat).get("reboot") is not None


async def ask(
    session: AsyncSession, actor: str, robot_id: str, offline_after_s: float, reason: str = ""
) -> tuple[RobotOrder, RobotView]:
    """The newest word, and the robot as it was before.

    Raises NotFound, and Conflict where nobody would obey or the host is about to start anew already.
    """
    await robot_of(session, robot_id, lock=True)  # two who ask at once are one reboot
    view = await service.get_robot(session, robot_id, offline_after_s)
    if why := hindrance(view):
        raise Conflict(why)
    return await orders.say(session, actor, robot_id, orders.Kind.REBOOT, True, reason), view


def hindrance(view: RobotView) -> str:
    """Why nobody may ask this robot for a reboot now; empty when they may."""
    robot_id, before = view.robot.id, view.orders.get(orders.Kind.REBOOT)
    if view.retired:
        return orders.retired(robot_id)
    if not view.online:
        return f"{robot_id} is offline: it would hear too late; switch it off and on where it stands"
    if not takes(view.heartbeat):
        return (
            f"{robot_id} takes no reboots from afar: its agent is too old, or Ansible's role `agent` did not set its "
            "host up for them (agent_reboots)"
        )
    if before and _is_under_way(before, view):
        return f"{robot_id} is about to reboot: {before.said_by.removeprefix('user:')} asked for it just before"
    return ""


def _is_under_way(order: RobotOrder, view: RobotView) -> bool:
    if _is_void(order, view.now):
        return False
    return state(order, view.heartbeat, view.received_at, view.now) is not RebootState.DONE
