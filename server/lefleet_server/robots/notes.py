"""What people write about a robot, and what its heartbeats said differently than before."""

from collections.abc import Sequence

from sqlalchemy import String, column, delete, func, select, true, values
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.audit.service import audit
from lefleet_server.db import Database
from lefleet_server.problems import Conflict, NotFound
from lefleet_server.robots.models import Robot, RobotChange, RobotNotes

KINDS = ("state", "policy", "calibration", "agent")
"""Of changes (see robots.models.RobotChange)."""
MOST_CHANGES = 10_000
"""Kept of each kind of each robot, so that a state that goes to and fro takes away no calibration."""
_AT_ONCE = 5000


async def read(session: AsyncSession, robot_id: str) -> RobotNotes | None:
    """None while nobody wrote. Raises NotFound."""
    await _require(session, robot_id)
    return await session.get(RobotNotes, robot_id)


async def write(session: AsyncSession, actor: str, robot_id: str, text: str, version: int) -> RobotNotes:
    """Replaces the text that was read as `version` (0: none). Raises NotFound, Conflict when somebody wrote since."""
    await _require(session, robot_id)
    values = {"text": text, "version": version + 1, "written_by": actor}
    new = insert(RobotNotes).values(robot_id=robot_id, **values)
    # By compare-and-swap: of two people at once, one is told to look again.
    swap = new.on_conflict_do_update(
        index_elements=["robot_id"],
        set_=values | {"written_at": func.now()},
        where=RobotNotes.version == version,
    )
    old = await session.get(RobotNotes, robot_id)
    if old is None and version:
        raise Conflict(f"nobody wrote about {robot_id} yet; write version 0, not {version}")
    before = old.text if old else ""
    done = await session.scalar(swap.returning(RobotNotes.version))
    if done is None:
        found = await session.get_one(RobotNotes, robot_id, populate_existing=True)
        raise Conflict(
            f"{found.written_by} wrote about {robot_id} since you read its notes (version {found.version}, yours is "
            f"{version}); read them again, then write"
        )
    audit(session, actor, "robot.notes", f"robot:{robot_id}", {"version": done, "old": before, "new": text})
    return await session.get_one(RobotNotes, robot_id, populate_existing=True)


async def changes(session: AsyncSession, robot_id: str, limit: int, what: str | None = None) -> Sequence[RobotChange]:
    """The newest first. Raises NotFound."""
    await _require(session, robot_id)
    query = select(RobotChange).where(RobotChange.robot_id == robot_id).order_by(RobotChange.id.desc()).limit(limit)
    if what is not None:
        query = query.where(RobotChange.what == what)
    return (await session.scalars(query)).all()


async def prune_changes(db: Database, most: int = MOST_CHANGES, at_once: int = _AT_ONCE) -> int:
    """Removes what is older than the newest `most` of each robot and kind, `at_once` a transaction; returns how many.

    Several processes may do it at once.
    """
    kind = values(column("kind", String), name="kinds").data([(each,) for each in KINDS])
    its = RobotChange.robot_id == Robot.id, RobotChange.what == kind.c.kind
    old = select(RobotChange.id).where(*its).order_by(RobotChange.id.desc()).offset(most).limit(at_once).lateral()
    some = select(old.c.id).select_from(Robot).join(kind, true()).join(old, true()).limit(at_once)
    remove = delete(RobotChange).where(RobotChange.id.in_(some)).returning(RobotChange.id)
    removed = 0
    while True:
        async with db.transaction() as session:
            gone = len((await session.scalars(remove)).all())
        removed += gone
        if gone < at_once:
            return removed


async def _require(session: AsyncSession, robot_id: str) -> None:
    if await session.get(Robot, robot_id) is None:
        raise NotFound(f"no robot {robot_id!r}; `lefleet-server robots` lists them")
