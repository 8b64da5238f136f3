"""One's own account: the password, and the log-ins that are open."""

from starlette.requests import Request

from lefleet_server.accounts import own_password, sessions
from lefleet_server.accounts.models import LoginSession, Role
from lefleet_server.accounts.schemas import PasswordChange
from lefleet_server.accounts.service import FIRST_PASSWORD_WITHIN
from lefleet_server.auth import login_of
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.dialogs import Form, Question, Values, button, field, read
from lefleet_server.dashboard.frame import ACCOUNT, frame, head
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.lists import panel, section
from lefleet_server.dashboard.logins import Logins
from lefleet_server.dashboard.parts import Text, box, link
from lefleet_server.dashboard.people import ROLES
from lefleet_server.dashboard.sections import page_for
from lefleet_server.fields import PASSWORD_MIN_CHARS
from lefleet_server.problems import Invalid
from lefleet_server.services import Services
from lefleet_server.units import lasting

_SOON = lasting(FIRST_PASSWORD_WITHIN.total_seconds())
_OTHERS_END = "A new one ends your other log-ins and unused log-in links. Tokens go on working."


class Account:
    """The viewer's own page."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._request = request
        self._acting = Acting(services, request)
        self._question = Question()
        user = user_on(request)
        self._has_password = user.password_hash is not None
        with head(user.username, f"{user.role.capitalize()}: {ROLES[Role(user.role)]}"), link("/tokens", "lf-button"):
            Text("Your tokens", tag="span")
        text = _OTHERS_END if self._has_password else f"Set one within {_SOON} of logging in. {_OTHERS_END}"
        with box("lf-narrow"), panel("Password", text):
            self._form = Form(self._change_password, "Change password" if self._has_password else "Set password")
            self._build_fields()
        with section("Log-ins", "End those that you do not know, then change your password"):
            with box("lf-section-acts"):
                self._end_others = button("End all others", self._ask_end_others)
            self._logins = Logins(self._end)

    async def refresh(self) -> None:
        login = await login_of(self._services.db, self._request)
        if login is None:
            return
        async with self._services.db.session() as session:
            found = await sessions.list_sessions(session, login.user.id)
        self._logins.show(found, login.session_id)
        self._end_others.set_visibility(len(found) > 1)

    def _build_fields(self) -> None:
        with self._form.fields():
            if self._has_password:
                field("Old password", "old", "password", autocomplete="current-password")
            hint = f"At least {PASSWORD_MIN_CHARS} characters"
            field(
                "New password", "new", "password", hint, autocomplete="new-password", minlength=str(PASSWORD_MIN_CHARS)
            )
            field("New password, again", "again", "password", autocomplete="new-password")

    async def _change_password(self, values: Values) -> None:
        new = values.get("new", [""])
        if new != values.get("again"):
            raise Invalid("the two new passwords differ; type them again")
        wanted = read(PasswordChange, old=values.get("old", [None])[0], new=new[0])
        who = await self._acting.who(Role.VIEWER)
        if who is None:
            return
        working = await own_password.change(self._services, who, self._acting.address, wanted)
        self._has_password = True
        self._build_fields()
        self._acting.say(f"Your password is changed. {_told(working)}", good=True)
        await self.refresh()

    async def _end(self, login: LoginSession) -> None:
        await self._acting.change(
            Role.VIEWER,
            lambda session, who: sessions.end_session(session, who.user, login.id, actor(who)),
            lambda _: self.refresh(),
        )

    async def _ask_end_others(self) -> None:
        text = "Every other browser and program that is logged in as you has to log in again."
        if await self._question.ask("End all other log-ins?", text, "End them"):
            await self._acting.change(
                Role.VIEWER,
                lambda session, who: sessions.end_sessions(session, who.user, actor(who), but=who.session_id),
                lambda _: self.refresh(),
            )


def _told(working: int) -> str:
    ended = "Your other log-ins and unused links have ended."
    if not working:
        return ended
    return f"{ended} Your tokens still work ({working}): revoke under Your tokens what you do not know."


def register(services: Services) -> None:
    @page_for(ACCOUNT, "Account", Role.VIEWER)
    async def page(request: Request) -> None:
        with frame(request, "Account"):
            await Account(services, request).refresh()
