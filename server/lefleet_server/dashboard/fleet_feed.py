"""The fleet for all viewers of this process: read once, compared once, and only what changed is sent."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lefleet_server.alerts import Firing
from lefleet_server.dashboard import queries
from lefleet_server.dashboard.queries import Day
from lefleet_server.robots.models import RobotVerdict
from lefleet_server.robots.state import RobotState
from lefleet_server.robots.stops import Stop
from lefleet_server.services import Services
from lefleet_server.shared import Shared

EVERY_S = 1.0
_KEPT_CHANGES = 8
"""A viewer who is further behind gets the whole fleet again."""

FIELDS = (
    "id", "site", "state", "health", "issues", "line", "policyType", "repo", "commit", "policy", "hz", "late",
    "waiting", "spool", "disk", "diskFree", "celsius", "host", "seen", "cameras", "stop", "online", "episode",
    "verdict",
)  # fmt: skip
"""Of a row as it is sent, in this order; static/fleet/model.js reads them by these names."""

type Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fleet at one moment. `changes` leads from the version before to this one."""

    version: int
    robots: Mapping[str, RobotState]
    rows: Mapping[str, Row]
    changes: str = ""
    online: int = 0
    running: int = 0
    waiting: int = 0
    """Episodes that are still on robots."""
    stops: Mapping[str, Stop] = field(default_factory=dict)
    """Of every robot that is not retired."""
    firing: Firing = field(default_factory=Firing)
    _whole: list[str] = field(default_factory=list)

    @property
    def whole(self) -> str:
        """All rows as JSON; made for the first who asks."""
        if not self._whole:
            self._whole.append(_dump({"fields": FIELDS, "rows": list(self.rows.values())}))
        return self._whole[0]


class FleetFeed:
    """Asks the database at most once an interval, however many look."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._now = Snapshot(0, {}, {})
        self._recent: deque[Snapshot] = deque(maxlen=_KEPT_CHANGES)
        self._fleet: Shared[None, Snapshot] = Shared(self._load, 0.8 * EVERY_S)
        self._day: Shared[datetime, Day] = Shared(self._load_day, 2.0)

    async def fleet(self) -> Snapshot:
        return await self._fleet.get(None)

    async def day(self, since: datetime) -> Day:
        return await self._day.get(since)

    def changed(self) -> None:
        """What a viewer just did is to be seen at once."""
        self._fleet.forget()

    def since(self, version: int) -> list[str] | None:
        """The changes, as JSON, that lead from `version` to the newest snapshot; None when they are no longer known."""
        found = [snapshot.changes for snapshot in self._recent if snapshot.version > version]
        return found if len(found) == self._now.version - version else None

    async def _load(self, _: None) -> Snapshot:
        firing = await self._services.alerts.firing()
        async with self._services.db.session() as session:
            robots = await self._services.fleet.read(session, firing=firing)
        rows = {robot.id: row(robot) for robot in robots}
        changes = compare(self._now.rows, rows)
        if changes or self._now.version == 0:
            states = {robot.id: robot for robot in robots}
            self._now = Snapshot(
                self._now.version + 1,
                states,
                rows,
                _dump(changes),
                # Here and not on each viewer's page: a sum over 500 robots costs as much as all else for a viewer.
                online=sum(robot.online for robot in robots),
                running=sum(robot.state == "running" for robot in robots),
                waiting=sum(robot.waiting or 0 for robot in robots),
                stops={robot.id: robot.stop for robot in robots if not robot.retired},
                firing=firing,
            )
            self._recent.append(self._now)
        else:
            # A robot's page shows more than its row: what is ordered of a robot that is offline changes no row.
            self._now = replace(self._now, robots={robot.id: robot for robot in robots}, firing=firing)
        return self._now

    async def _load_day(self, since: datetime) -> Day:
        async with self._services.db.session() as session:
            return await queries.day(session, since)


def row(robot: RobotState) -> Row:
    """As it is sent: rounded to what is shown, so that noise is no change."""
    hottest, free, stop = robot.arm.hottest, robot.disk_free_bytes, robot.stop
    return (
        robot.id,
        robot.site,
        robot.state,
        robot.health,
        [[issue.tone, issue.text] for issue in robot.issues],
        robot.line,
        robot.policy_type,
        robot.repo,
        robot.commit,
        robot.policy,
        _round(robot.hz, 1),
        _round(robot.lateness_ms, 1),
        robot.waiting,
        _round(robot.spool_used, 3),
        _round(robot.disk_used, 3),
        None if free is None else round(free, -8),
        _round(hottest[1] if hottest else None, 0),
        None if robot.host_celsius is None else [round(robot.host_celsius), robot.host_tone],
        _milliseconds(robot.seen_at),
        [list(camera) for camera in robot.cameras],
        [stop.state.value, stop.number, (stop.asked_by or "").removeprefix("user:"), _milliseconds(stop.asked_at)],
        robot.online,
        robot.episode_id,
        _said(robot.verdict),
    )


def _said(verdict: RobotVerdict | None) -> list[Any] | None:
    if verdict is None:
        return None
    return [verdict.word, verdict.said_by.removeprefix("user:"), _milliseconds(verdict.said_at)]


def compare(before: Mapping[str, Row], after: Mapping[str, Row]) -> dict[str, Any]:
    """What changed: `new` whole rows, `cells` {robot: {place: value}}, `gone` robots. Empty when nothing did."""
    cells = {
        robot_id: changed
        for robot_id, now in after.items()
        if robot_id in before and before[robot_id] != now and (changed := _cells(before[robot_id], now))
    }
    new = [now for robot_id, now in after.items() if robot_id not in before]
    gone = [robot_id for robot_id in before if robot_id not in after]
    return {name: what for name, what in (("cells", cells), ("new", new), ("gone", gone)) if what}


def _cells(before: Row, now: Row) -> dict[int, Any]:
    return {place: new for place, (old, new) in enumerate(zip(before, now, strict=True)) if old != new}


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
