"""How every robot is, for the dashboard, the API and the command line: read in one place, so that all say the same."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.alerts import NOT_ASKED, Firing
from lefleet_server.robots import motors, orders, stops
from lefleet_server.robots.models import Robot, RobotCamera, RobotStatus, RobotStop, RobotVerdict
from lefleet_server.robots.motors import Arm
from lefleet_server.robots.orders import Kind
from lefleet_server.robots.service import is_online
from lefleet_server.robots.state import RobotState
from lefleet_server.robots.wish_schemas import RebootOut, RestOut, TaskOut


@dataclass(frozen=True, slots=True)
class _Said:
    received_at: datetime
    heartbeat: dict[str, Any]
    arm: Arm


class Fleet:
    """Asks the database for no heartbeat that it knows: they are most of what it would read."""

    def __init__(self, offline_after_s: float) -> None:
        self._offline_after_s = offline_after_s
        self._said: dict[str, _Said] = {}

    async def read(
        self, session: AsyncSession, robot_ids: Collection[str] | None = None, firing: Firing = NOT_ASKED
    ) -> list[RobotState]:
        """Every robot by name, or those of `robot_ids` alone that there are. `firing`: what Prometheus alerts about."""
        cameras = select(RobotCamera.robot_id, func.array_agg(RobotCamera.name)).group_by(RobotCamera.robot_id)
        ordered = await orders.standing(session, robot_ids)
        query = (
            select(
                Robot.id,
                Robot.site,
                Robot.token_hash.is_(None),
                RobotStatus.received_at,
                RobotStatus.state,
                RobotStop,
                RobotVerdict,
                Robot.hw,
            )
            .add_columns(func.now())
            .outerjoin(RobotStatus, RobotStatus.robot_id == Robot.id)
            .outerjoin(RobotStop, RobotStop.robot_id == Robot.id)
            .outerjoin(RobotVerdict, RobotVerdict.robot_id == Robot.id)
            .order_by(Robot.id)
        )
        if robot_ids is not None:
            cameras = cameras.where(RobotCamera.robot_id.in_(robot_ids))
            query = query.where(Robot.id.in_(robot_ids))
        pictured = {robot_id: set(names) for robot_id, names in await session.execute(cameras)}
        found = (await session.execute(query)).all()
        await self._hear(session, {robot_id: at for robot_id, _, _, at, *_ in found if at is not None})
        return [self._state(firing, pictured.get(each[0], set()), ordered.get(each[0], {}), *each) for each in found]

    async def _hear(self, session: AsyncSession, received: Mapping[str, datetime]) -> None:
        """Reads the heartbeats that came since the last look."""
        new = [name for name, at in received.items() if name not in self._said or self._said[name].received_at != at]
        if not new:
            return
        query = select(RobotStatus.robot_id, RobotStatus.received_at, RobotStatus.heartbeat, RobotStatus.metrics).where(
            RobotStatus.robot_id.in_(new)
        )
        for robot_id, at, heartbeat, metrics in await session.execute(query):
            self._said[robot_id] = _Said(at, heartbeat, motors.read(metrics))

    def _state(
        self,
        firing: Firing,
        pictured: set[str],
        ordered: orders.Standing,
        robot_id: str,
        site: str,
        retired: bool,
        received_at: datetime | None,
        state: str | None,
        word: RobotStop | None,
        verdict: RobotVerdict | None,
        hw: str,
        now: datetime,
    ) -> RobotState:
        said = self._said.get(robot_id)
        heartbeat = said.heartbeat if said else {}
        rest, task, reboot = (ordered.get(kind) for kind in (Kind.REST, Kind.TASK, Kind.REBOOT))
        # The database's clock stamped the heartbeat, so the database's clock measures its age.
        online = not retired and is_online(received_at, now, self._offline_after_s)
        return RobotState(
            id=robot_id,
            site=site,
            hw=hw,
            state="retired" if retired else state if online and state else "offline",
            online=online,
            seen_at=received_at,
            cameras=tuple((name, name in pictured) for name in heartbeat.get("cameras") or sorted(pictured)),
            stop=stops.seen(word, heartbeat),
            word=verdict,
            rest=RestOut.of(rest, heartbeat) if rest else None,
            task_order=TaskOut.of(task, heartbeat) if task else None,
            reboot=RebootOut.of(reboot, heartbeat, received_at, now) if reboot else None,
            said=heartbeat,
            arm=said.arm if said else Arm(),
            now=now,
            alerts=firing.of(robot_id) if firing.known else None,
            alerts_unknown_since=firing.unknown_since,
        )
