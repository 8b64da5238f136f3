"""Log-in, log-out, who am I, and what people do with their own log-ins, password and tokens."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts import own_password, service, sessions, throttle, tokens
from lefleet_server.accounts.models import ApiToken, Role, User
from lefleet_server.accounts.schemas import (
    CodeLogin,
    Ended,
    Me,
    NewToken,
    PasswordChange,
    PasswordChanged,
    PasswordLogin,
    SessionList,
    SessionOut,
    TokenList,
    TokenMade,
    TokenOut,
)
from lefleet_server.accounts.sessions import Device
from lefleet_server.auth import SESSION_COOKIE, CurrentLogin, CurrentUser, ServicesDep, bearer, require_same_origin
from lefleet_server.config import Settings
from lefleet_server.fields import RowId
from lefleet_server.problems import Forbidden
from lefleet_server.secret import USER_PREFIX
from lefleet_server.services import Services

router = APIRouter(tags=["people"])


@router.post("/login", status_code=204)
async def login(body: PasswordLogin | CodeLogin, request: Request, services: ServicesDep) -> Response:
    """Opens a session and sets its cookie, by username and password or by the code of a log-in link."""
    require_same_origin(request)
    token = await _open_session(services, body, device(request))
    response = Response(status_code=204)
    set_session(response, token, services.settings)
    return response


@router.post("/logout", status_code=204)
async def logout(request: Request, services: ServicesDep) -> Response:
    """Ends this session, here and for everyone who holds its cookie."""
    require_same_origin(request)
    token = bearer(request, USER_PREFIX) or request.cookies.get(SESSION_COOKIE)
    if token:
        async with services.db.transaction() as session:
            await sessions.close_session(session, token)
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax", secure=services.settings.secure_cookies)
    return response


@router.get("/me")
async def me(user: CurrentUser) -> Me:
    """The person behind this request."""
    return Me(username=user.username, role=Role(user.role))


@router.put("/me/password")
async def put_password(
    body: PasswordChange, login: CurrentLogin, request: Request, services: ServicesDep
) -> PasswordChanged:
    """Changes one's own password; ends one's other sessions and unused log-in links.

    Wrong old passwords count as failed log-ins. Whoever has none must have logged in within the last 10 minutes.
    """
    return PasswordChanged(tokens=await own_password.change(services, login, device(request).address, body))


@router.get("/me/sessions")
async def list_my_sessions(login: CurrentLogin, services: ServicesDep) -> SessionList:
    """One's own log-ins, newest first."""
    async with services.db.session() as session:
        found = await sessions.list_sessions(session, login.user.id)
    return SessionList(items=[SessionOut.model_validate(each) for each in found], current=login.session_id)


@router.delete("/me/sessions")
async def end_my_other_sessions(login: CurrentLogin, services: ServicesDep) -> Ended:
    """Ends all of one's log-ins but this one."""
    async with services.db.transaction() as session:
        actor = f"user:{login.user.username}"
        return Ended(ended=await sessions.end_sessions(session, login.user, actor, but=login.session_id))


@router.delete("/me/sessions/{session_id}", status_code=204)
async def end_my_session(session_id: Annotated[RowId, Path()], login: CurrentLogin, services: ServicesDep) -> Response:
    """Ends one of one's log-ins at once."""
    async with services.db.transaction() as session:
        await sessions.end_session(session, login.user, session_id, f"user:{login.user.username}")
    return Response(status_code=204)


@router.get("/tokens", tags=["tokens"])
async def list_tokens(
    login: CurrentLogin,
    services: ServicesDep,
    everyones: Annotated[bool, Query(description="Not only one's own: for administrators.")] = False,
) -> TokenList:
    """The API tokens that are valid, newest first."""
    if everyones:
        _require_admin(login.user)
    async with services.db.session() as session:
        found = await tokens.owned_tokens(session)
    return TokenList(items=[_token(t, name) for t, name in found if everyones or t.user_id == login.user.id])


@router.post("/tokens", status_code=201, tags=["tokens"])
async def create_token(body: NewToken, login: CurrentLogin, response: Response, services: ServicesDep) -> TokenMade:
    """A new API token of one's own. It does what its scopes say and never more than its owner may."""
    response.headers["Cache-Control"] = "no-store"
    async with services.db.transaction() as session:
        made, secret = await tokens.create_token(session, login.user, body.name, body.scopes, body.days)
    return TokenMade(**_token(made, login.user.username).model_dump(), token=secret)


@router.delete("/tokens/{token_id}", status_code=204, tags=["tokens"])
async def revoke_token(token_id: Annotated[RowId, Path()], login: CurrentLogin, services: ServicesDep) -> Response:
    """Ends a token at once: one's own, or for administrators anybody's."""
    owner = None if Role(login.user.role).covers(Role.ADMIN) else login.user.id
    async with services.db.transaction() as session:
        await tokens.revoke_token(session, token_id, owner, f"user:{login.user.username}")
    return Response(status_code=204)


def device(request: Request) -> Device:
    return Device(request.client.host if request.client else "local", request.headers.get("user-agent", ""))


def set_session(response: Response, token: str, settings: Settings) -> None:
    """Out of scripts' reach, and not sent along by other sites' forms."""
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=settings.session_ttl_s,
        httponly=True,
        samesite="lax",
        secure=settings.secure_cookies,
    )


def _require_admin(user: User) -> None:
    if not Role(user.role).covers(Role.ADMIN):
        raise Forbidden(f"this needs the role {Role.ADMIN}; {user.username} is {user.role}")


def _token(token: ApiToken, owner: str) -> TokenOut:
    values = {name: getattr(token, name) for name in TokenOut.model_fields if name != "owner"}
    return TokenOut(owner=owner, **values)


async def _open_session(services: Services, body: PasswordLogin | CodeLogin, device: Device) -> str:
    username = body.username if isinstance(body, PasswordLogin) else None
    attempt = await throttle.admit(services.db, username, device.address, services.settings.login_attempts)
    async with services.db.transaction() as session:
        user = await _check(session, body, services.settings)
        await throttle.forgive(session, attempt)
        how = "password" if username is not None else "link"
        return await sessions.open_session(session, user, services.settings.session_ttl_s, device, how)


async def _check(session: AsyncSession, body: PasswordLogin | CodeLogin, settings: Settings) -> User:
    if isinstance(body, CodeLogin):
        return await service.code_user(session, body.code)
    otherwise = (
        f"whoever logs in with {settings.oidc_name} has none here and does so at {settings.address}/login; "
        f"`lefleet login --token` takes a token that was made at {settings.address}/tokens"
    )
    known = otherwise if settings.oidc_issuer else None
    return await service.password_user(session, body.username, body.password, known)
