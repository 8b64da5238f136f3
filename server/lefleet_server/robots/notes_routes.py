"""What people write about a robot, the history of what it said, and what happened to it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from lefleet_server.auth import CurrentUser, Operator, ServicesDep
from lefleet_server.robots import events, notes
from lefleet_server.robots.schemas import ChangeList, ChangeOut, EventList, EventOut, NotesIn, NotesOut

router = APIRouter(tags=["people"])

_NOTHING = NotesOut(text="", version=0, written_by=None, written_at=None)


@router.get("/robots/{robot_id}/notes")
async def get_notes(robot_id: str, user: CurrentUser, services: ServicesDep) -> NotesOut:
    """What people wrote about the robot, Markdown."""
    async with services.db.session() as session:
        found = await notes.read(session, robot_id)
        return NotesOut.model_validate(found) if found else _NOTHING


@router.put("/robots/{robot_id}/notes")
async def put_notes(robot_id: str, body: NotesIn, user: Operator, services: ServicesDep) -> NotesOut:
    """Replaces what people wrote about the robot; 409 when somebody did since `version` was read."""
    async with services.db.transaction() as session:
        done = await notes.write(session, f"user:{user.username}", robot_id, body.text, body.version)
        return NotesOut.model_validate(done)


@router.get("/robots/{robot_id}/changes")
async def list_changes(
    robot_id: str,
    user: CurrentUser,
    services: ServicesDep,
    what: Annotated[Literal["state", "policy", "calibration", "agent"] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ChangeList:
    """What the robot's heartbeats said differently than before, newest first: its calibration's history, for one."""
    async with services.db.session() as session:
        found = await notes.changes(session, robot_id, limit, what)
        return ChangeList(items=[ChangeOut.model_validate(change) for change in found])


@router.get("/robots/{robot_id}/events")
async def list_events(
    robot_id: str, user: CurrentUser, services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> EventList:
    """What people did to the robot, and what it said differently than before, newest first."""
    async with services.db.session() as session:
        found = await events.newest(session, robot_id, limit)
    return EventList(items=[EventOut.model_validate(event) for event in found])
