"""Accounts as administrators keep them: invited, changed, disabled, and their log-ins ended."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from lefleet_server.accounts import people, service, sessions
from lefleet_server.accounts.schemas import (
    Ended,
    LoginLink,
    NewUser,
    PersonOut,
    SessionList,
    SessionOut,
    UserChange,
    UserList,
    UserOut,
)
from lefleet_server.auth import Admin, ServicesDep
from lefleet_server.fields import RowId, Username

router = APIRouter(prefix="/users", tags=["people"])

Name = Annotated[Username, Path()]


@router.get("")
async def list_users(user: Admin, services: ServicesDep) -> UserList:
    """Everybody who has an account, by name."""
    async with services.db.session() as session:
        return UserList(items=[PersonOut.model_validate(each) for each in await people.people(session)])


@router.post("", status_code=201)
async def add_user(body: NewUser, user: Admin, services: ServicesDep) -> UserOut:
    """A new account. Its owner gets in by a log-in link and then chooses a password."""
    async with services.db.transaction() as session:
        made = await service.add_user(session, body.username, body.role, f"user:{user.username}")
        return UserOut.model_validate(made)


@router.patch("/{username}")
async def change_user(username: Name, body: UserChange, user: Admin, services: ServicesDep) -> UserOut:
    """Another role, or disabled: out at once, of open pages in seconds. 409 when nobody would be left to administer."""
    async with services.db.transaction() as session:
        changed = await service.change_user(session, username, f"user:{user.username}", body.role, body.disabled)
        return UserOut.model_validate(changed)


@router.post("/{username}/login-link", status_code=201)
async def create_login_link(username: Name, user: Admin, response: Response, services: ServicesDep) -> LoginLink:
    """An address that logs this person in, once."""
    response.headers["Cache-Control"] = "no-store"
    settings = services.settings
    async with services.db.transaction() as session:
        code = await service.create_login_code(session, username, settings.login_code_ttl_s, f"user:{user.username}")
    return LoginLink(url=f"{settings.address}/login?code={code}", ttl_s=settings.login_code_ttl_s)


@router.get("/{username}/sessions")
async def list_sessions(username: Name, user: Admin, services: ServicesDep) -> SessionList:
    """A person's log-ins, newest first."""
    async with services.db.session() as session:
        found = await sessions.list_sessions(session, (await service.get_user(session, username)).id)
    return SessionList(items=[SessionOut.model_validate(each) for each in found], current=None)


@router.delete("/{username}/sessions")
async def end_sessions(username: Name, user: Admin, services: ServicesDep) -> Ended:
    """Ends all of a person's log-ins at once."""
    async with services.db.transaction() as session:
        whose = await service.get_user(session, username)
        return Ended(ended=await sessions.end_sessions(session, whose, f"user:{user.username}"))


@router.delete("/{username}/sessions/{session_id}", status_code=204)
async def end_session(
    username: Name, session_id: Annotated[RowId, Path()], user: Admin, services: ServicesDep
) -> Response:
    """Ends one of a person's log-ins at once."""
    async with services.db.transaction() as session:
        whose = await service.get_user(session, username)
        await sessions.end_session(session, whose, session_id, f"user:{user.username}")
    return Response(status_code=204)
