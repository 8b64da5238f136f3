"""Robots that wait for what people want of them: one look at the database for all of them, several times a second.

Each process of the server looks for itself, so it does not matter at which of them a person presses.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import or_, select

from lefleet_server.db import Database
from lefleet_server.robots.models import Robot, RobotOrder, RobotStop, RobotVerdict
from lefleet_server.robots.orders import Kind, newest
from lefleet_server.shared import Shared

LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Heard:
    """The numbers of the newest words that a robot knows; None: it does not obey words of that kind."""

    stop: int
    verdict: int | None = None
    rest: int | None = None
    task: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """The newest word about one robot's emergency stop; number 0 where nobody ever said one."""

    number: int
    wanted: bool
    verdict: RobotVerdict | None = None
    """The newest word about an episode of it."""
    rest: RobotOrder | None = None
    task: RobotOrder | None = None

    def is_newer(self, heard: Heard) -> bool:
        """Than what the robot has heard."""
        pairs = ((self.verdict, heard.verdict), (self.rest, heard.rest), (self.task, heard.task))
        others = (word is not None and number is not None and word.number > number for word, number in pairs)
        return self.number > heard.stop or any(others)


NOTHING = Wish(0, False)


class Wishes:
    """Nothing is asked of the database while nobody waits."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._newest: Shared[None, dict[str, Wish]] = Shared(self._load, 0.8 * LOOK_S)

    async def newer(self, robot_id: str, heard: Heard, wait_s: float, gone: Callable[[], Awaitable[bool]]) -> Wish:
        """As soon as there is one newer than what it heard; the newest there is after `wait_s`, or when `gone`."""
        until_s = time.monotonic() + wait_s
        while True:
            wish = (await self._newest.get(None)).get(robot_id, NOTHING)
            left_s = until_s - time.monotonic()
            if wish.is_newer(heard) or left_s <= 0 or await gone():
                return wish
            await asyncio.sleep(min(LOOK_S, left_s))

    async def _load(self, _: None) -> dict[str, Wish]:
        rest, is_rest = newest(Kind.REST)
        task, is_task = newest(Kind.TASK)
        query = (
            select(Robot.id, RobotStop.number, RobotStop.wanted, RobotVerdict, rest, task)
            .outerjoin(RobotStop, RobotStop.robot_id == Robot.id)
            .outerjoin(RobotVerdict, RobotVerdict.robot_id == Robot.id)
            .outerjoin(rest, is_rest)
            .outerjoin(task, is_task)
            .where(or_(*(word.robot_id.is_not(None) for word in (RobotStop, RobotVerdict, rest, task))))
        )
        async with self._db.session() as session:
            rows = await session.execute(query)
            return {
                name: Wish(number or 0, bool(wanted), verdict, rest_word, task_word)
                for name, number, wanted, verdict, rest_word, task_word in rows
            }
