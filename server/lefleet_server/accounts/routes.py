"""Log-in, log-out, and who am I."""

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts import service
from lefleet_server.accounts.models import Role, User
from lefleet_server.accounts.schemas import CodeLogin, Me, PasswordLogin
from lefleet_server.auth import SESSION_COOKIE, CurrentUser, ServicesDep, bearer, require_same_origin
from lefleet_server.problems import Unauthenticated
from lefleet_server.secret import USER_PREFIX
from lefleet_server.services import Services

router = APIRouter(tags=["people"])


@router.post("/login", status_code=204)
async def login(body: PasswordLogin | CodeLogin, request: Request, services: ServicesDep) -> Response:
    """Opens a session and sets its cookie, by username and password or by the code of a log-in link."""
    require_same_origin(request)
    token = await _open_session(services, body, request.client.host if request.client else "local")
    response = Response(status_code=204)
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=services.settings.session_ttl_s,
        httponly=True,
        samesite="lax",
        secure=services.settings.secure_cookies,
    )
    return response


@router.post("/logout", status_code=204)
async def logout(request: Request, services: ServicesDep) -> Response:
    """Ends this session, here and for everyone who holds its cookie."""
    require_same_origin(request)
    token = bearer(request, USER_PREFIX) or request.cookies.get(SESSION_COOKIE)
    if token:
        async with services.db.transaction() as session:
            await service.close_session(session, token)
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax", secure=services.settings.secure_cookies)
    return response


@router.get("/me")
async def me(user: CurrentUser) -> Me:
    """The person behind this request."""
    return Me(username=user.username, role=Role(user.role))


async def _open_session(services: Services, body: PasswordLogin | CodeLogin, address: str) -> str:
    username = body.username if isinstance(body, PasswordLogin) else None
    async with services.db.transaction() as session:
        await service.check_throttle(session, username, address, services.settings.login_attempts)
    try:
        async with services.db.transaction() as session:
            user = await _check(session, body)
            return await service.open_session(session, user, services.settings.session_ttl_s)
    except Unauthenticated:
        # In its own transaction: the failed one is rolled back, this must stay.
        async with services.db.transaction() as session:
            service.record_failure(session, username, address)
        raise


async def _check(session: AsyncSession, body: PasswordLogin | CodeLogin) -> User:
    if isinstance(body, CodeLogin):
        return await service.code_user(session, body.code)
    return await service.password_user(session, body.username, body.password)
