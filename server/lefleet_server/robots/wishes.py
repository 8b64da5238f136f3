"""Robots that wait for what people want of them: one look at the database for all of them, several times a second.

Each process of the server looks for itself, so it does not matter at which of them a person presses.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import select

from lefleet_server.db import Database
from lefleet_server.robots.models import Robot, RobotStop, RobotVerdict
from lefleet_server.shared import Shared

LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Wish:
    """The newest word about one robot's emergency stop; number 0 where nobody ever said one."""

    number: int
    wanted: bool
    verdict: RobotVerdict | None = None
    """The newest word about an episode of it."""

    def is_newer(self, stop: int, verdict: int | None) -> bool:
        """Than what the robot has heard; None: it takes no verdicts."""
        told = verdict is not None and self.verdict is not None and self.verdict.number > verdict
        return self.number > stop or told


NOTHING = Wish(0, False)


class Wishes:
    """Nothing is asked of the database while nobody waits."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._newest: Shared[None, dict[str, Wish]] = Shared(self._load, 0.8 * LOOK_S)

    async def newer(
        self, robot_id: str, stop: int, verdict: int | None, wait_s: float, gone: Callable[[], Awaitable[bool]]
    ) -> Wish:
        """As soon as there is one newer than these numbers; the newest there is after `wait_s`, or when `gone`."""
        until_s = time.monotonic() + wait_s
        while True:
            wish = (await self._newest.get(None)).get(robot_id, NOTHING)
            left_s = until_s - time.monotonic()
            if wish.is_newer(stop, verdict) or left_s <= 0 or await gone():
                return wish
            await asyncio.sleep(min(LOOK_S, left_s))

    async def _load(self, _: None) -> dict[str, Wish]:
        query = (
            select(Robot.id, RobotStop.number, RobotStop.wanted, RobotVerdict)
            .outerjoin(RobotStop, RobotStop.robot_id == Robot.id)
            .outerjoin(RobotVerdict, RobotVerdict.robot_id == Robot.id)
            .where(RobotStop.robot_id.is_not(None) | RobotVerdict.robot_id.is_not(None))
        )
        async with self._db.session() as session:
            rows = await session.execute(query)
            return {name: Wish(number or 0, bool(wanted), verdict) for name, number, wanted, verdict in rows}
