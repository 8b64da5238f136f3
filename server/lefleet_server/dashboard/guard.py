"""Nobody sees a page, or opens its live connection, without being logged in."""

from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from lefleet_server import problems
from lefleet_server.accounts import login_note
from lefleet_server.accounts.models import Role, User
from lefleet_server.auth import SESSION_COOKIE, Principal, login_of, require_same_origin, user_of
from lefleet_server.dashboard.assets import PREFIX
from lefleet_server.db import Database
from lefleet_server.services import Services

LOGIN = "/login"
_OPEN = (LOGIN, "/favicon.ico")
_OPEN_FOLDERS = (f"{PREFIX}/", "/_nicegui/")  # scripts and styles, the same for everybody
_LIVE = "/_nicegui_ws/"  # Socket.IO, which itself takes every origin
_ENDED = "your log-in has ended: its time was over, or you or an administrator ended it; log in again"


class LoginRequired:
    """In front of everything NiceGUI serves, so that a new page cannot forget to ask."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith("/api/"):
            await _unknown_api(scope["path"])(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            # A live connection does what its person may: another site's page must not open one with their cookie,
            # nor a poll (a GET) that stands in for one.
            require_same_origin(connection, reading=scope["path"].startswith(_LIVE))
        except problems.Forbidden as problem:
            await _refuse(problem, scope, receive, send)
            return
        login = await login_of(self._services.db, connection)
        if login is not None:
            connection.state.login = login
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4401, "reason": "log in first"})
        else:
            await self._to_login(connection)(scope, receive, send)

    def _to_login(self, connection: HTTPConnection) -> RedirectResponse:
        response = RedirectResponse(login_address(connection), status_code=HTTPStatus.SEE_OTHER)
        if SESSION_COOKIE in connection.cookies:
            login_note.leave(response, _ENDED, secure=self._services.settings.secure_cookies)
        return response


async def _refuse(problem: problems.Problem, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4403, "reason": "another site's page"})
    else:
        await problems.response(problem)(scope, receive, send)


def is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def _unknown_api(path: str) -> JSONResponse:
    """Programs that mistype an address get a problem document, not a log-in page."""
    return problems.response(problems.NotFound(f"nothing is at {path}; /api/v1/openapi.json lists what is"))


def login_address(connection: HTTPConnection) -> str:
    """The log-in page, which leads back to where the person wanted to go."""
    target = connection.url.path + (f"?{connection.url.query}" if connection.url.query else "")
    return LOGIN if target == "/" else f"{LOGIN}?next={quote(target)}"


def user_on(request: Request) -> User:
    """The person for whom a page is being built."""
    login: Principal = request.state.login
    return login.user


async def operator_on(db: Database, request: Request) -> str | None:
    """Who presses on a page, as the audit log names them; None unless they may operate robots now.

    The page may have been open for a day: what counts is what this person may do now.
    """
    user = await user_of(db, request)
    return f"user:{user.username}" if user and Role(user.role).covers(Role.OPERATOR) else None
