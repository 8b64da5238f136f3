"""Robots that wait for what people want of them: one look at the database for all of them, several times a second.

Each process of the server looks for itself, so it does not matter at which of them a person presses.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import or_, select

from lefleet_server.db import Database
from lefleet_server.robots import orders
from lefleet_server.robots.models import Robot, RobotStop, RobotVerdict
from lefleet_server.robots.orders import Kind, Standing
from lefleet_server.shared import Shared

LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Heard:
    """The numbers of the newest words that a robot knows; None, or missing: it does not obey words of that kind."""

    stop: int
    verdict: int | None = None
    orders: Mapping[Kind, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wish:
    """The newest word about one robot's emergency stop; number 0 where nobody ever said one."""

    number: int
    wanted: bool
    verdict: RobotVerdict | None = None
    """The newest word about an episode of it."""
    orders: Standing = field(default_factory=dict)

    def is_newer(self, heard: Heard) -> bool:
        """Than what the robot has heard."""
        ordered = ((order, heard.orders.get(kind)) for kind, order in self.orders.items())
        pairs = ((self.verdict, heard.verdict), *ordered)
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
        query = (
            select(Robot.id, RobotStop.number, RobotStop.wanted, RobotVerdict)
            .outerjoin(RobotStop, RobotStop.robot_id == Robot.id)
            .outerjoin(RobotVerdict, RobotVerdict.robot_id == Robot.id)
            .where(or_(RobotStop.robot_id.is_not(None), RobotVerdict.robot_id.is_not(None)))
        )
        async with self._db.session() as session:
            ordered = await orders.standing(session, to_obey=True)
            found = {name: Wish(0, False, orders=words) for name, words in ordered.items()}
            for name, number, wanted, verdict in await session.execute(query):
                found[name] = Wish(number or 0, bool(wanted), verdict, ordered.get(name, {}))
        return found
