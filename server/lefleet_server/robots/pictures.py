"""The newest picture of each of a robot's cameras."""

from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.problems import NotFound, TooMany
from lefleet_server.robots import MOST_CAMERAS
from lefleet_server.robots.models import RobotCamera
from lefleet_server.robots.words import robot_of

_GONE_AFTER = timedelta(days=1)


async def store(session: AsyncSession, robot_id: str, camera: str, jpeg: bytes) -> None:
    """Replaces the camera's last picture. Raises TooMany for one more camera than MOST_CAMERAS."""
    values = {"jpeg": jpeg, "received_at": func.now()}
    this = RobotCamera.robot_id == robot_id, RobotCamera.name == camera
    if await session.scalar(update(RobotCamera).where(*this).values(values).returning(RobotCamera.name)) is None:
        await _make_room(session, robot_id, camera)
        await session.execute(
            insert(RobotCamera)
            .values(robot_id=robot_id, name=camera, **values)
            .on_conflict_do_update(index_elements=["robot_id", "name"], set_=values)
        )


async def _make_room(session: AsyncSession, robot_id: str, camera: str) -> None:
    """For this one: where the others are too many, those without a picture for a day go."""
    await robot_of(session, robot_id, lock=True)  # of two at once, the second counts the first's
    others = RobotCamera.robot_id == robot_id, RobotCamera.name != camera
    count = select(func.count()).select_from(RobotCamera).where(*others)
    if (await session.execute(count)).scalar_one() >= MOST_CAMERAS:
        await session.execute(delete(RobotCamera).where(*others, RobotCamera.received_at < func.now() - _GONE_AFTER))
        if (await session.execute(count)).scalar_one() >= MOST_CAMERAS:
            raise TooMany(
                f"robot {robot_id} has pictures of {MOST_CAMERAS} cameras and no room for another; name its cameras as "
                "before, or wait until one of them has sent none for a day"
            )


async def newest(session: AsyncSession, robot_id: str, camera: str) -> RobotCamera:
    found = await session.get(RobotCamera, (robot_id, camera))
    if found is None:
        raise NotFound(f"robot {robot_id} sent no picture of a camera {camera!r}")
    return found
