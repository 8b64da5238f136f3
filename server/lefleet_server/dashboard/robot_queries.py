"""What the robot's page reads beside its last heartbeat: how its episodes went, and what happened to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.dashboard import queries
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.queries import EpisodeRow
from lefleet_server.deletion import holds
from lefleet_server.deletion.models import LegalHold
from lefleet_server.episodes.models import Episode
from lefleet_server.robots import events, notes
from lefleet_server.robots.events import Event
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


_EVENTS = 30


async def history(session: AsyncSession, robot_id: str) -> History:
    """Raises NotFound."""
    page = await queries.episode_page(session, Filters(robot=robot_id), 8)
    return History(
        page.rows,
        await _rate(session, robot_id),
        await events.newest(session, robot_id, _EVENTS),
        await notes.changes(session, robot_id, 20, "calibration"),
        await notes.read(session, robot_id),
        await holds.of_robot(session, robot_id),
        await _type(session, robot_id),
    )


async def _type(session: AsyncSession, robot_id: str) -> str:
    newest = select(Episode.meta["robot_type"].astext).where(Episode.robot_id == robot_id)
    return await session.scalar(newest.order_by(Episode.started_at.desc(), Episode.id.desc()).limit(1)) or ""


async def _rate(session: AsyncSession, robot_id: str) -> Rate:
    newest = select(Episode.result).where(Episode.robot_id == robot_id).order_by(Episode.started_at.desc())
    recent = newest.limit(RATED).subquery()
    judged = recent.c.result.in_(("success", "failure"))
    query = select(func.count().filter(recent.c.result == "success"), func.count().filter(judged)).select_from(recent)
    return Rate(*(await session.execute(query)).one())
