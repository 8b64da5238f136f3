"""Who is being looked at: such a robot is asked to say once a second how it is, the others every few seconds.

Kept in the database, because the page and the robot may be at different processes of the server.
"""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from lefleet_server.db import Database
from lefleet_server.robots.models import RobotWatch
from lefleet_server.shared import Shared

WATCHED_INTERVAL_S = 1.0
KEEP_S = 15.0
"""A page that is open says so more often than this; one that was closed is forgotten."""


class Watches:
    """One question a second for all heartbeats of this process; none while none come."""

    def __init__(self, db: Database, interval_s: float) -> None:
        self._db = db
        self._interval_s = interval_s
        self._watched: Shared[None, frozenset[str]] = Shared(self._load, 1.0)

    async def interval_s(self, robot_id: str) -> float:
        """After how long the robot is to send its next heartbeat, seconds."""
        watched = robot_id in await self._watched.get(None)
        return min(self._interval_s, WATCHED_INTERVAL_S) if watched else self._interval_s

    async def watch(self, robot_id: str) -> None:
        """Somebody looks at this robot; say it again within KEEP_S."""
        until = func.now() + timedelta(seconds=KEEP_S)
        look = insert(RobotWatch).values(robot_id=robot_id, until=until)
        async with self._db.transaction() as session:
            await session.execute(look.on_conflict_do_update(index_elements=["robot_id"], set_={"until": until}))
        self.forget()

    def forget(self) -> None:
        """Look anew at the next heartbeat."""
        self._watched.forget()

    async def _load(self, _: None) -> frozenset[str]:
        query = select(RobotWatch.robot_id).where(RobotWatch.until > func.now())
        async with self._db.session() as session:
            return frozenset(await session.scalars(query))
