"""Who is asking: people by session cookie, session or API token, robots by their credential; and what each may."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from sqlalchemy import or_, select, update
from starlette.requests import HTTPConnection

from lefleet_server.accounts.models import ApiToken, LoginSession, Role, User
from lefleet_server.accounts.roles import Scope
from lefleet_server.audit.origin import origin
from lefleet_server.db import Database, utc_now
from lefleet_server.problems import Forbidden, Unauthenticated
from lefleet_server.robots import credentials
from lefleet_server.robots.models import Robot
from lefleet_server.secret import ROBOT_PREFIX, TOKEN_PREFIX, USER_PREFIX, digest
from lefleet_server.services import Services

SESSION_COOKIE = "lefleet_session"
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Principal:
    """A person, and by what they came: a log-in (`session_id`), or an API token with its scopes."""

    user: User
    session_id: int | None
    scopes: frozenset[str] | None = None
    """None for a log-in: the role alone counts."""

    def require(self, role: Role, scope: Scope) -> None:
        """Raises Forbidden unless both the person's role and the token's scopes allow it."""
        if not Role(self.user.role).covers(role):
            raise Forbidden(f"this needs the role {role}; {self.user.username} is {self.user.role}")
        if self.scopes is not None and scope not in self.scopes:
            raise Forbidden(f"this needs a token with the scope {scope}; this one has {', '.join(sorted(self.scopes))}")


async def services_of(request: Request) -> Services:
    # Awaits nothing; FastAPI would call a plain function in a thread, for each request.
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services_of)]


async def user_of(db: Database, connection: HTTPConnection) -> User | None:
    """The logged-in person behind a request or websocket; None when there is none. API tokens log nobody in.

    Takes any Starlette connection, so pages that are no FastAPI routes can ask too.
    """
    found = await login_of(db, connection)
    return found.user if found else None


async def login_of(db: Database, connection: HTTPConnection) -> Principal | None:
    """Like user_of, with the session."""
    token = bearer(connection, USER_PREFIX) or connection.cookies.get(SESSION_COOKIE)
    if not token:
        return None
    query = (
        select(User, LoginSession)
        .join(LoginSession, LoginSession.user_id == User.id)
        .where(LoginSession.token_hash == digest(token), LoginSession.expires_at > utc_now())
        .where(User.disabled_at.is_(None))
    )
    async with db.transaction() as session:
        row = (await session.execute(query)).one_or_none()
        if row is None:
            return None
        user, login = row
        if login.seen_at is None or login.seen_at < utc_now() - _SEEN_EVERY:
            await session.execute(update(LoginSession).where(LoginSession.id == login.id).values(seen_at=utc_now()))
        return Principal(user, login.id)


async def principal_of(db: Database, connection: HTTPConnection) -> Principal | None:
    """The person behind a request, by log-in or API token; None when there is none."""
    token = bearer(connection, TOKEN_PREFIX)
    if token is None:
        return await login_of(db, connection)
    query = (
        select(User, ApiToken)
        .join(ApiToken, ApiToken.user_id == User.id)
        .where(ApiToken.token_hash == digest(token), ApiToken.expires_at > utc_now(), ApiToken.revoked_at.is_(None))
        .where(User.disabled_at.is_(None))
    )
    async with db.transaction() as session:
        row = (await session.execute(query)).one_or_none()
        if row is None:
            return None
        user, found = row
        stale = or_(ApiToken.used_at.is_(None), ApiToken.used_at < utc_now() - _SEEN_EVERY)
        if found.used_at is None or found.used_at < utc_now() - _SEEN_EVERY:
            await session.execute(
                update(ApiToken).where(ApiToken.id == found.id, stale).values(used_at=utc_now()),
                execution_options={"synchronize_session": False},
            )
        origin().via = f"token:{found.prefix}"
        return Principal(user, None, frozenset(found.scopes))


async def robot_of(db: Database, connection: HTTPConnection) -> Robot | None:
    """The robot whose credential came with the request; None when there is none."""
    token = bearer(connection, ROBOT_PREFIX)
    return await credentials.holder(db, token) if token is not None else None


def require_same_origin(request: HTTPConnection, *, reading: bool = False) -> None:
    """Refuses a change, or a live connection, that another site's page made the browser begin; `reading`: a GET, too.

    Browsers tell with Sec-Fetch-Site, older ones with Origin; programs send neither and hold no one's cookie.
    """
    if not reading and request.scope["type"] == "http" and request.scope["method"] in _SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    sent_from = request.headers.get("origin")
    if site is not None:
        same = site in {"same-origin", "none"}
    else:
        same = sent_from is None or urlsplit(sent_from).netloc == request.headers.get("host")
    if not same:
        raise Forbidden("this request came from another site's page; send it from LeFleet's own pages")


async def current_principal(request: Request, services: ServicesDep) -> Principal:
    if bearer(request, USER_PREFIX) is None and bearer(request, TOKEN_PREFIX) is None:
        require_same_origin(request)
    found = await principal_of(services.db, request)
    if found is None:
        raise Unauthenticated("log in first: POST /api/v1/login", headers={"WWW-Authenticate": "Bearer"})
    return found


async def current_robot(request: Request, services: ServicesDep) -> Robot:
    robot = await robot_of(services.db, request)
    if robot is None:
        raise no_robot()
    return robot


def no_robot() -> Unauthenticated:
    return Unauthenticated(
        "no valid robot credential; enrol this robot again: `lefleet-agent enrol`",
        headers={"WWW-Authenticate": "Bearer"},
    )


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
CurrentRobot = Annotated[Robot, Depends(current_robot)]


def require_role(needed: Role, scope: Scope) -> Callable[..., Awaitable[User]]:
    """A dependency that lets only this role and higher ones pass, and of tokens only those with the scope."""

    async def check(principal: CurrentPrincipal) -> User:
        principal.require(needed, scope)
        return principal.user

    return check


async def current_login(principal: CurrentPrincipal) -> Principal:
    if principal.session_id is None:
        raise Forbidden("a token cannot do this; log in, so that a stolen token cannot make itself new ones")
    return principal


CurrentUser = Annotated[User, Depends(require_role(Role.VIEWER, Scope.READ))]
Operator = Annotated[User, Depends(require_role(Role.OPERATOR, Scope.OPERATE))]
Admin = Annotated[User, Depends(require_role(Role.ADMIN, Scope.ADMIN))]
CurrentLogin = Annotated[Principal, Depends(current_login)]
"""What people do with their own log-ins, password and tokens."""


def bearer(connection: HTTPConnection, prefix: str) -> str | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and token.startswith(prefix) else None
