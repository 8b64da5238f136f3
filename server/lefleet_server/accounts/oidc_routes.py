"""Log-in by an OpenID Connect provider: out to it and back. A browser goes these ways, so failures end on a page."""

from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse

from lefleet_server.accounts import identities, login_note, sessions, throttle
from lefleet_server.accounts.attempt import MAX_AGE_S, Attempt
from lefleet_server.accounts.provider import Claims, Provider, ProviderDown, ProviderRefused, word
from lefleet_server.accounts.routes import device, set_session
from lefleet_server.audit.origin import origin
from lefleet_server.auth import ServicesDep
from lefleet_server.limits import API
from lefleet_server.problems import NotFound, Problem
from lefleet_server.services import Services

COOKIE = "lefleet_oidc"
_BEGIN = f"{API}/login/oidc"
_Word = Annotated[str | None, Query(max_length=4096)]

log = structlog.get_logger()
router = APIRouter(tags=["people"])


@router.get("/login/oidc", status_code=303, response_class=RedirectResponse)
async def begin_oidc_login(
    services: ServicesDep, page: Annotated[str, Query(alias="next", description="Page to come back to.")] = "/"
) -> RedirectResponse:
    """Leads a browser to the OpenID Connect provider, or back to the log-in page, which says what is wrong."""
    provider = _provider(services)
    attempt = Attempt.begin(page)
    try:
        answer = RedirectResponse(await provider.address(attempt, _redirect_uri(services)), HTTPStatus.SEE_OTHER)
    except ProviderDown as error:
        return _down(services, error)
    answer.set_cookie(
        COOKIE,
        attempt.cookie(),
        max_age=MAX_AGE_S,
        path=_BEGIN,
        httponly=True,
        samesite="lax",
        secure=services.settings.secure_cookies,
    )
    return answer


@router.get("/login/oidc/callback", status_code=303, response_class=RedirectResponse)
async def end_oidc_login(
    request: Request,
    services: ServicesDep,
    code: _Word = None,
    state: _Word = None,
    iss: _Word = None,
    error: _Word = None,
) -> RedirectResponse:
    """Where the provider sends the browser back to: opens a session, or says on the log-in page why not."""
    provider, settings = _provider(services), services.settings
    origin().via = "oidc"
    try:
        attempt = _answered(request, services, state, iss)
        if error is not None or code is None:
            raise _NotAdmitted(f"{settings.oidc_name} let nobody in ({word(error)})")
        token = await _open_session(services, provider, code, attempt, request)
    except ProviderDown as failure:
        return _down(services, failure)
    except ProviderRefused as failure:
        return _refused(services, f"{settings.oidc_name}: {failure}; begin again")
    except Problem as problem:
        return _refused(services, problem.detail)
    answer = RedirectResponse(attempt.target, HTTPStatus.SEE_OTHER)
    set_session(answer, token, settings)
    _forget(answer, services)
    return answer


class _NotAdmitted(Problem):
    """Known to the provider, and not welcome here."""


def _answered(request: Request, services: Services, state: str | None, iss: str | None) -> Attempt:
    """The log-in that this browser began and that this is the answer to."""
    settings = services.settings
    attempt = Attempt.from_cookie(request.cookies.get(COOKIE, ""))
    if attempt is None or not attempt.is_answered_by(state or ""):
        raise _NotAdmitted(f"this log-in was begun elsewhere or too long ago; begin again at {settings.address}")
    if iss is not None and iss != settings.oidc_issuer:  # RFC 9207
        raise _NotAdmitted("another provider answered; begin again")
    return attempt


async def _open_session(services: Services, provider: Provider, code: str, attempt: Attempt, request: Request) -> str:
    settings, where = services.settings, device(request)
    counted = await throttle.admit(services.db, None, where.address, settings.login_attempts)
    try:
        claims: Claims = await provider.person(code, attempt, _redirect_uri(services))
    except ProviderDown:
        async with services.db.transaction() as session:
            await throttle.forgive(session, counted)
        raise
    async with services.db.transaction() as session:
        await throttle.forgive(session, counted)  # whoever they are, they guessed nothing
        user, reason = await identities.admit(session, settings, claims)
        if user is not None:
            return await sessions.open_session(session, user, settings.session_ttl_s, where, "oidc")
    raise _NotAdmitted(reason)


def _provider(services: Services) -> Provider:
    if services.oidc is None:
        raise NotFound("this server has no log-in by OpenID Connect; set oidc_issuer")
    return services.oidc


def _redirect_uri(services: Services) -> str:
    return f"{services.settings.address}{_BEGIN}/callback"


def _down(services: Services, error: ProviderDown) -> RedirectResponse:
    log.error("the OpenID Connect provider cannot be used", issuer=services.settings.oidc_issuer, error=str(error))
    name = services.settings.oidc_name
    return _back(services, f"{name} cannot be used now: {error}. Passwords and log-in links work as before")


def _refused(services: Services, reason: str) -> RedirectResponse:
    log.warning("log-in refused", by="oidc", reason=reason)
    return _back(services, reason)


def _back(services: Services, text: str) -> RedirectResponse:
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    login_note.leave(answer, text, secure=services.settings.secure_cookies)
    _forget(answer, services)
    return answer


def _forget(answer: RedirectResponse, services: Services) -> None:
    answer.delete_cookie(COOKIE, path=_BEGIN, httponly=True, samesite="lax", secure=services.settings.secure_cookies)
