"""What the robot's page reads beside its last heartbeat: how its episodes went, and what happened to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.models import AuditEntry
from lefleet_server.dashboard import queries
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.queries import EpisodeRow
from lefleet_server.deletion import holds
from lefleet_server.deletion.models import LegalHold
from lefleet_server.episodes.models import Episode
from lefleet_server.robots import notes
from lefleet_server.robots.models import RobotChange, RobotNotes

_Z95 = 1.959964
RATED = 200
"""The newest episodes of which success is counted: older ones are about other policies and another arm."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of the judged episodes were a success."""

    successes: int
    judged: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval, 0 to 1; None while nothing was judged.

        https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval#Wilson_score_interval
        """
        if not self.judged:
            return None
        n, p = self.judged, self.successes / self.judged
        middle = (p + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
        half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person did to the robot, or that it said differently than before."""

    at: datetime
    what: str
    detail: str
    by: str = ""
    stop: bool = False
    """Whether it is about an emergency stop."""


@dataclass(frozen=True, slots=True)
class History:
    """Read every few seconds while the page is looked at."""

    episodes: Sequence[EpisodeRow]
    rate: Rate
    events: Sequence[Event]
    calibrations: Sequence[RobotChange]
    notes: RobotNotes | None
    holds: Sequence[LegalHold]
    robot_type: str
    """As its newest episode says; heartbeats do not. Empty before the first one."""


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
_EVENTS = 30
_DURING = 200


async def history(session: AsyncSession, robot_id: str) -> History:
    """Raises NotFound."""
    page = await queries.episode_page(session, Filters(robot=robot_id), 8)
    changes = await notes.changes(session, robot_id, _EVENTS)
    audited = select(AuditEntry).where(AuditEntry.subject == f"robot:{robot_id}").order_by(AuditEntry.at.desc())
    entries = (await session.scalars(audited.limit(_EVENTS))).all()
    events = [*map(_change, changes), *map(_entry, entries)]
    return History(
        page.rows,
        await _rate(session, robot_id),
        sorted(events, key=lambda event: event.at, reverse=True)[:_EVENTS],
        await notes.changes(session, robot_id, 20, "calibration"),
        await notes.read(session, robot_id),
        await holds.of_robot(session, robot_id),
        await _type(session, robot_id),
    )


async def _type(session: AsyncSession, robot_id: str) -> str:
    newest = select(Episode.meta["robot_type"].astext).where(Episode.robot_id == robot_id)
    return await session.scalar(newest.order_by(Episode.started_at.desc(), Episode.id.desc()).limit(1)) or ""


async def during(session: AsyncSession, robot_id: str, since: datetime, until: datetime) -> Sequence[Event]:
    """What happened to the robot from `since` to `until` by the server's clock, oldest first, some hundreds at most."""
    told = RobotChange.robot_id == robot_id, RobotChange.at.between(since, until)
    changes = await session.scalars(select(RobotChange).where(*told).order_by(RobotChange.at).limit(_DURING))
    done = AuditEntry.subject == f"robot:{robot_id}", AuditEntry.at.between(since, until)
    entries = await session.scalars(select(AuditEntry).where(*done).order_by(AuditEntry.at).limit(_DURING))
    return sorted([*map(_change, changes), *map(_entry, entries)], key=lambda event: event.at)


async def _rate(session: AsyncSession, robot_id: str) -> Rate:
    newest = select(Episode.result).where(Episode.robot_id == robot_id).order_by(Episode.started_at.desc())
    recent = newest.limit(RATED).subquery()
    judged = recent.c.result.in_(("success", "failure"))
    query = select(func.count().filter(recent.c.result == "success"), func.count().filter(judged)).select_from(recent)
    return Rate(*(await session.execute(query)).one())


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
