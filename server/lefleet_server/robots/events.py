"""What happened to a robot, in people's words: what they did to it, and what it said differently than before."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.models import AuditEntry
from lefleet_server.robots import notes
from lefleet_server.robots.models import RobotChange

_MOST = 200


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person did to the robot, or that it said differently than before."""

    at: datetime
    what: str
    detail: str
    by: str = ""
    stop: bool = False
    """Whether it is about an emergency stop."""


_ACTIONS = {
    "robot.estop": "Emergency stop asked for",
    "robot.estop-release": "Emergency stop released",
    "robot.verdict": "Episode judged",
    "robot.task": "Task given",
    "robot.reboot": "Reboot asked for",
    "robot.enrolled": "Enrolled",
    "robot.enrolment-code": "Enrolment code made",
    "robot.revoked": "Credential revoked",
    "robot.credential-renewed": "New credential given out",
    "robot.credential-taken-over": "New credential taken over",
    "robot.notes": "Notes written",
    "hold.placed": "Legal hold placed",
    "hold.released": "Legal hold released",
}
_CHANGES = {"state": "State", "policy": "Policy", "calibration": "Calibration", "agent": "Agent"}


async def newest(session: AsyncSession, robot_id: str, limit: int) -> Sequence[Event]:
    """The newest first. Raises NotFound."""
    changes = await notes.changes(session, robot_id, limit)
    done = select(AuditEntry).where(AuditEntry.subject == f"robot:{robot_id}").order_by(AuditEntry.at.desc())
    entries = await session.scalars(done.limit(limit))
    found = [*map(_change, changes), *map(_entry, entries)]
    return sorted(found, key=lambda event: event.at, reverse=True)[:limit]


async def during(session: AsyncSession, robot_id: str, since: datetime, until: datetime) -> Sequence[Event]:
    """What happened to the robot from `since` to `until` by the server's clock, oldest first, some hundreds at most."""
    told = RobotChange.robot_id == robot_id, RobotChange.at.between(since, until)
    changes = await session.scalars(select(RobotChange).where(*told).order_by(RobotChange.at).limit(_MOST))
    done = AuditEntry.subject == f"robot:{robot_id}", AuditEntry.at.between(since, until)
    entries = await session.scalars(select(AuditEntry).where(*done).order_by(AuditEntry.at).limit(_MOST))
    return sorted([*map(_change, changes), *map(_entry, entries)], key=lambda event: event.at)


def _change(change: RobotChange) -> Event:
    short = (lambda text: text[:12]) if change.what == "calibration" else str
    detail = f"{short(change.old)} → {short(change.new)}" if change.old else short(change.new)
    stop = change.what == "state" and "estopped" in (change.old, change.new)
    return Event(change.at, _CHANGES.get(change.what, change.what), detail.replace("_", " "), stop=stop)


def _entry(entry: AuditEntry) -> Event:
    by = entry.actor.removeprefix("user:").removeprefix("robot:")
    what, detail = _ACTIONS.get(entry.action, entry.action), ""
    match entry.action:
        case "robot.verdict":
            detail = str(entry.detail.get("outcome", ""))
        case "robot.rest":
            what = "Rest asked for" if entry.detail.get("rest") else "Rest ended"
            detail = str(entry.detail.get("reason", ""))
        case "robot.task":
            detail = str(entry.detail.get("task") or "what its settings say")
        case "robot.reboot":
            detail = str(entry.detail.get("reason", ""))
    return Event(entry.at, what, detail, by, stop=entry.action.startswith("robot.estop"))
