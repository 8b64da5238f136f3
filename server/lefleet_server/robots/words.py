"""What every word about a robot needs: the robot, and a number that tells newer words from older ones."""

from sqlalchemy import BigInteger, ColumnElement, cast, func
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.problems import NotFound
from lefleet_server.robots.models import Robot


async def robot_of(session: AsyncSession, robot_id: str, lock: bool = False) -> Robot:
    """With `lock`, nobody else changes or locks it before the transaction ends. Raises NotFound."""
    found = await session.get(Robot, robot_id, with_for_update=lock or None)
    if found is None:
        raise NotFound(f"no robot {robot_id!r}")
    return found


def clock_us() -> ColumnElement[int]:
    """Microseconds since 1970 by the database's clock, within a transaction too: above every number from before."""
    return cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
