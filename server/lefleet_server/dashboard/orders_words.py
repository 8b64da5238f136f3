"""What people ordered of a robot, and how far it has got with that, in words. Pure."""

from dataclasses import dataclass
from datetime import datetime

from lefleet_server.dashboard.parts import Tone
from lefleet_server.robots.orders import REBOOT_VOID_AFTER
from lefleet_server.robots.reboots import RebootState
from lefleet_server.robots.state import RobotState
from lefleet_server.robots.wish_schemas import OrderOut

_DEFAULT = "What its settings say"
_UNHEARD = " · not heard yet"


@dataclass(frozen=True, slots=True)
class Said:
    """A line of the panel: what, then who said so before the instant, and how far it has got after it."""

    text: str
    before: str = ""
    at: datetime | None = None
    after: str = ""


def chip(robot: RobotState) -> tuple[str, Tone]:
    """Empty while it works and is to work."""
    if robot.rest and robot.rest.wanted:
        return ("Resting", "off") if robot.rest.heard and _is_at_rest(robot) else ("Will rest", "warn")
    if _is_at_rest(robot):
        return ("Will go on", "warn") if robot.rest and not robot.rest.heard else ("Resting", "off")
    return "", ""


def task(robot: RobotState) -> Said:
    order, text = robot.task_order, robot.said.get("task", "")
    if order and order.heard and order.text == text:
        return Said(text, *_by(order))
    return Said(text or "It told none.")


def next_task(robot: RobotState) -> Said | None:
    """None when the robot told the newest one as its own."""
    order = robot.task_order
    if order is None:
        return None
    if not order.heard:
        return Said(order.text or _DEFAULT, *_by(order), _UNHEARD)
    if order.text and order.text != robot.said.get("task"):
        return Said(order.text, *_by(order), " · from its next episode on")
    return None


def rest(robot: RobotState) -> Said | None:
    order = robot.rest
    if order and order.wanted:
        after = "" if _is_at_rest(robot) else " · after this episode"
        return Said(order.reason, *_by(order), after if order.heard else _UNHEARD)
    if not _is_at_rest(robot):
        return None
    if order and not order.heard:
        return Said("", f"Ended by {_name(order)}, ", order.said_at, _UNHEARD)
    return Said("Asked for at the robot, to be ended there.")


def reboot(robot: RobotState) -> Said | None:
    """None once it is done, which the robot's uptime tells."""
    order = robot.reboot
    if order is None or order.state is RebootState.DONE:
        return None
    if order.state is RebootState.VOID:
        after = " · not heard in time: it is void"
    elif order.state is RebootState.ASKED:
        after = _UNHEARD
    elif robot.seen_at and robot.seen_at - order.said_at > REBOOT_VOID_AFTER:
        after = " · heard, and nothing happened: `journalctl -u lefleet-reboot` there says why"
    else:
        after = " · after this episode"
    return Said(order.reason, *_by(order), after)


def hindrance(robot: RobotState) -> str:
    """Why it may not obey; empty when nothing speaks against it."""
    if not robot.said:
        return "It was never heard of. It obeys once it is."
    if not robot.online:
        return "It is offline. It obeys once it is back."
    if not robot.said.get("orders"):
        return "Its agent tells nothing of orders: it is too old to obey them, or cannot read its disk."
    return ""


def _is_at_rest(robot: RobotState) -> bool:
    """As far as it told last: one that was switched off while it rested rests."""
    return robot.said.get("state") == "drained"


def _by(order: OrderOut) -> tuple[str, datetime]:
    return f"By {_name(order)}, ", order.said_at


def _name(order: OrderOut) -> str:
    return order.said_by.removeprefix("user:")
