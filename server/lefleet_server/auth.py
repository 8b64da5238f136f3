"""Who is asking: people by session cookie or bearer token, robots by bearer token."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from sqlalchemy import select
from starlette.requests import HTTPConnection

from lefleet_server.accounts.models import LoginSession, Role, User
from lefleet_server.db import Database, utc_now
from lefleet_server.problems import Forbidden, Unauthenticated
from lefleet_server.robots.models import Robot
from lefleet_server.secret import ROBOT_PREFIX, USER_PREFIX, digest
from lefleet_server.services import Services

SESSION_COOKIE = "lefleet_session"
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services_of)]


async def user_of(db: Database, connection: HTTPConnection) -> User | None:
    """The logged-in person behind a request or websocket; None when there is none.

    Takes any Starlette connection, so pages that are no FastAPI routes can ask too.
    """
    token = bearer(connection, USER_PREFIX) or connection.cookies.get(SESSION_COOKIE)
    if not token:
        return None
    query = (
        select(User)
        .join(LoginSession, LoginSession.user_id == User.id)
        .where(LoginSession.token_hash == digest(token), LoginSession.expires_at > utc_now())
        .where(User.disabled_at.is_(None))
    )
    async with db.session() as session:
        return (await session.scalars(query)).one_or_none()


async def robot_of(db: Database, connection: HTTPConnection) -> Robot | None:
    """The robot whose credential came with the request; None when there is none."""
    token = bearer(connection, ROBOT_PREFIX)
    if token is None:
        return None
    async with db.session() as session:
        return (await session.scalars(select(Robot).where(Robot.token_hash == digest(token)))).one_or_none()


def require_same_origin(request: HTTPConnection) -> None:
    """Refuses a change that another site's page made the browser send.

    Browsers tell with Sec-Fetch-Site, older ones with Origin; programs send neither and hold no one's cookie.
    """
    if request.scope["method"] in _SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        same = site in {"same-origin", "none"}
    else:
        same = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not same:
        raise Forbidden("this request came from another site's page; send it from LeFleet's own pages")


async def current_user(request: Request, services: ServicesDep) -> User:
    if bearer(request, USER_PREFIX) is None:
        require_same_origin(request)
    user = await user_of(services.db, request)
    if user is None:
        raise Unauthenticated("log in first: POST /api/v1/login", headers={"WWW-Authenticate": "Bearer"})
    return user


async def current_robot(request: Request, services: ServicesDep) -> Robot:
    robot = await robot_of(services.db, request)
    if robot is None:
        raise Unauthenticated(
            "no valid robot credential; enrol this robot again: `lefleet-agent enrol`",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return robot


def require_role(needed: Role) -> Callable[..., Awaitable[User]]:
    """A dependency that lets only this role and higher ones pass."""

    async def check(user: CurrentUser) -> User:
        if not Role(user.role).covers(needed):
            raise Forbidden(f"this needs the role {needed}; {user.username} is {user.role}")
        return user

    return check


CurrentUser = Annotated[User, Depends(current_user)]
CurrentRobot = Annotated[Robot, Depends(current_robot)]
Operator = Annotated[User, Depends(require_role(Role.OPERATOR))]


def bearer(connection: HTTPConnection, prefix: str) -> str | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and token.startswith(prefix) else None
