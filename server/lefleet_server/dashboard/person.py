"""One person: role, way in, log-ins and tokens. For administrators."""

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from lefleet_server.accounts import people as accounts_people
from lefleet_server.accounts import service as accounts
from lefleet_server.accounts import sessions, tokens
from lefleet_server.accounts.models import ApiToken, LoginSession, Role
from lefleet_server.accounts.people import Person
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.audit_view import AuditView
from lefleet_server.dashboard.dialogs import Question, button
from lefleet_server.dashboard.errors import nothing_here
from lefleet_server.dashboard.frame import frame
from lefleet_server.dashboard.lists import panel, section
from lefleet_server.dashboard.logins import Logins
from lefleet_server.dashboard.parts import Chip, Text, Time, box, icon, link, set_attribute
from lefleet_server.dashboard.people import PATH, ROLES, Inviter
from lefleet_server.dashboard.sections import page_for
from lefleet_server.dashboard.token_list import TokenList
from lefleet_server.services import Services


class PersonPage:
    """One administrator's look at one account."""

    def __init__(self, services: Services, request: Request, person: Person) -> None:
        self._services = services
        self._name = person.username
        self._acting = Acting(services, request)
        self._question = Question()
        self._inviter = Inviter(services, self._acting)
        self._build_head(person)
        with box("lf-two"):
            with panel("Role", "Each may do what the ones before it may. It counts at once, for tokens too."):
                self._build_roles()
            with panel("Account"):
                self._build_account()
        with section("Log-ins"):
            with box("lf-section-acts"):
                self._end_all = button("End all", self._end_sessions)
            self._logins = Logins(self._end_session)
        with section("Tokens", "Programs that act for this person"):
            self._tokens = TokenList(self._revoke, with_owner=False)

    def _build_head(self, person: Person) -> None:
        with box("lf-head", tag="header"):
            with box("lf-head-text"):
                with link(PATH, "lf-back"):
                    icon("previous")
                    Text("People", tag="span")
                with box("lf-title"):
                    Text(person.username, tag="h1")
                    self._chip = Chip("Disabled", "bad", "is-plain")
                with box("lf-sub"):
                    Text("Added ", tag="span")
                    Time(person.created_at)
                    Text(" · last log-in ", tag="span")
                    Time(person.logged_in_at, "ago")
            with box("lf-actions"), link(AuditView(actor=f"user:{person.username}").address(), "lf-button"):
                icon("audit")
                Text("What they did", tag="span")

    def _build_roles(self) -> None:
        with box("lf-segments lf-roles", role="group", aria_label="Role"):
            self._roles = {role: self._role(role) for role in ROLES}
        self._role_says = Text("", "lf-panel-text")

    def _role(self, role: Role) -> Text:
        made = Text(role.value.capitalize(), "lf-segment", tag="button")
        made.props.update({"type": "button", "title": ROLES[role]})
        made.on("click", lambda: self._set_role(role))
        return made

    def _build_account(self) -> None:
        self._says = Text("", "lf-panel-text")
        with box("lf-panel-acts"):
            self._link = button("Make a log-in link", self._invite)
            self._disable = button("Disable", self._ask_disable, "is-danger")
            self._enable = button("Enable", self._do_enable)

    async def refresh(self) -> None:
        async with self._services.db.session() as session:
            person = await accounts_people.person(session, self._name)
            user = await accounts.get_user(session, self._name)
            logins = await sessions.list_sessions(session, user.id)
            owned = await tokens.list_tokens(session, user.id)
        if person is not None:
            self._show(person)
        self._logins.show(logins)
        self._end_all.set_visibility(bool(logins))
        self._tokens.show([(token, self._name) for token in owned])

    def _show(self, person: Person) -> None:
        disabled = person.disabled_at is not None
        self._chip.set_visibility(disabled)
        self._disable.set_visibility(not disabled)
        self._enable.set_visibility(disabled)
        self._link.set_visibility(not disabled)
        for role, made in self._roles.items():
            set_attribute(made, "aria-pressed", "true" if role == person.role else "false")
        self._role_says.show(f"{person.role.capitalize()}: {ROLES[Role(person.role)]}.")
        if disabled:
            self._says.show("Disabled: nobody gets in with this account, and its tokens do nothing.")
        elif person.has_password:
            self._says.show("Logs in with a password. A log-in link lets in whoever forgot it.")
        else:
            self._says.show("Has no password yet: only a log-in link lets them in.")

    async def _set_role(self, role: Role) -> None:
        await self._acting.change(
            Role.ADMIN,
            lambda session, who: accounts.change_user(session, self._name, actor(who), role=role),
            lambda _: self.refresh(),
        )

    async def _invite(self) -> None:
        await self._inviter.invite(self._name)

    async def _ask_disable(self) -> None:
        text = "They are out within seconds: log-ins, links and open pages end for good, tokens as long as it lasts."
        if await self._question.ask(f"Disable {self._name}?", text, "Disable"):
            await self._set_disabled(True)

    async def _do_enable(self) -> None:
        await self._set_disabled(False)

    async def _set_disabled(self, disabled: bool) -> None:
        await self._acting.change(
            Role.ADMIN,
            lambda session, who: accounts.change_user(session, self._name, actor(who), disabled=disabled),
            lambda _: self.refresh(),
        )

    async def _end_session(self, login: LoginSession) -> None:
        await self._acting.change(
            Role.ADMIN,
            lambda session, who: _end_one(session, self._name, login.id, actor(who)),
            lambda _: self.refresh(),
        )

    async def _end_sessions(self) -> None:
        text = "Whoever uses this account now has to log in again."
        if await self._question.ask(f"End all log-ins of {self._name}?", text, "End all"):
            await self._acting.change(
                Role.ADMIN,
                lambda session, who: _end_all(session, self._name, actor(who)),
                lambda _: self.refresh(),
            )

    async def _revoke(self, token: ApiToken) -> None:
        text = "The program that uses it is refused from now on. A revoked token does not come back."
        if await self._question.ask(f"Revoke {token.name}?", text, "Revoke"):
            await self._acting.change(
                Role.ADMIN,
                lambda session, who: tokens.revoke_token(session, token.id, None, actor(who)),
                lambda _: self.refresh(),
            )


async def _end_one(session: AsyncSession, username: str, session_id: int, by: str) -> None:
    await sessions.end_session(session, await accounts.get_user(session, username), session_id, by)


async def _end_all(session: AsyncSession, username: str, by: str) -> int:
    return await sessions.end_sessions(session, await accounts.get_user(session, username), by)


def register(services: Services) -> None:
    @page_for(PATH + "/{username}", "Person", Role.ADMIN)
    async def page(request: Request, username: str) -> None:
        async with services.db.session() as session:
            person = await accounts_people.person(session, username)
        with frame(request, "People"):
            if person is None:
                nothing_here("There is no such account", f"Nobody is called {username}.", PATH, "Back to the people")
                return
            await PersonPage(services, request, person).refresh()
