"""Who is being looked at: such a robot is asked to say once a second how it is and to send its pictures as they come.

Kept in the database, because the page and the robot may be at different processes of the server.
"""

import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from lefleet_server.db import Database, is_near
from lefleet_server.robots.models import RobotWatch
from lefleet_server.shared import Shared

WATCHED_INTERVAL_S = 1.0
KEEP_S = 15.0
"""Whoever looks says so more often than this; who went away is forgotten."""
_KEEP = timedelta(seconds=KEEP_S)


class Watches:
    """One question a second for all heartbeats of this process; none while none come."""

    def __init__(self, db: Database, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._interval_s = interval_s
        self._clock = clock
        self._said_s: dict[str, float] = {}
        self._watched: Shared[None, frozenset[str]] = Shared(self._load, 1.0)

    async def watched(self, robot_id: str) -> bool:
        return robot_id in await self._watched.get(None)

    def interval_s(self, watched: bool) -> float:
        """After how long a robot is to send its next heartbeat, seconds."""
        return min(self._interval_s, WATCHED_INTERVAL_S) if watched else self._interval_s

    async def watch(self, robot_id: str) -> None:
        """Somebody looks at this robot, which must exist; to be said again within KEEP_S, and cheap to say often."""
        now_s = self._clock()
        if now_s - self._said_s.get(robot_id, -KEEP_S) < KEEP_S / 3:
            return
        self._said_s[robot_id] = now_s
        until = func.now() + _KEEP
        look = insert(RobotWatch).values(robot_id=robot_id, until=until)
        async with self._db.transaction() as session:
            await session.execute(look.on_conflict_do_update(index_elements=["robot_id"], set_={"until": until}))
        self.forget()

    def forget(self) -> None:
        """Look anew at the next heartbeat."""
        self._watched.forget()

    async def _load(self, _: None) -> frozenset[str]:
        query = select(RobotWatch.robot_id).where(RobotWatch.until > func.now(), is_near(RobotWatch.until, _KEEP))
        async with self._db.session() as session:
            return frozenset(await session.scalars(query))
