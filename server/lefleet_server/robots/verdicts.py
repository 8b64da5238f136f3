"""A person's word about the episode that runs: it ends with this outcome. One that comes too late ends nothing."""

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.problems import Conflict
from lefleet_server.robots import Word
from lefleet_server.robots.models import RobotStatus, RobotVerdict
from lefleet_server.robots.words import clock_us, robot_of


async def say(session: AsyncSession, actor: str, robot_id: str, episode_id: str, word: Word) -> RobotVerdict:
    """Wants the episode to end. Raises NotFound, and Conflict unless the robot said last that this very one runs."""
    await robot_of(session, robot_id)
    status = await session.get(RobotStatus, robot_id)
    if status is None or status.episode_id != episode_id:
        raise Conflict(
            f"episode {episode_id} does not run on {robot_id} (any more), so {word.value!r} ended nothing; "
            "label it among the episodes once it has arrived"
        )
    new = insert(RobotVerdict).values(
        robot_id=robot_id, number=clock_us(), word=word.value, episode_id=episode_id, said_by=actor
    )
    changes = {
        "number": func.greatest(RobotVerdict.number + 1, new.excluded.number),
        "word": new.excluded.word,
        "episode_id": new.excluded.episode_id,
        "said_by": new.excluded.said_by,
        "said_at": func.now(),
    }
    said = new.on_conflict_do_update(index_elements=["robot_id"], set_=changes).returning(RobotVerdict)
    verdict = (await session.scalars(said, execution_options={"populate_existing": True})).one()
    details = {"episode_id": episode_id, "outcome": word.value}
    audit(session, actor, "robot.verdict", f"robot:{robot_id}", details)
    return verdict
