"""What the page of the audit log reads beyond the services. Read-only."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import User
from lefleet_server.robots.models import Robot

_MOST_ROBOTS = 200


async def actors(session: AsyncSession) -> Sequence[str]:
    """Whom a filter of the audit log offers: the console, people, and the first 200 robots.

    A press on a name in the log finds the others.
    """
    users = await session.scalars(select(User.username).order_by(User.username))
    robots = await session.scalars(select(Robot.id).order_by(Robot.id).limit(_MOST_ROBOTS))
    return ["console", *(f"user:{name}" for name in users), *(f"robot:{name}" for name in robots)]
