"""People who may log in: who they are, and how somebody is brought in. For administrators."""

from starlette.requests import Request

from lefleet_server.accounts import people as accounts_people
from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import Role
from lefleet_server.accounts.people import Person
from lefleet_server.accounts.schemas import NewUser
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.dialogs import FormDialog, Secret, Values, button, choice, field, one, read
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.lists import Column, Lines, cell, line, main_cell
from lefleet_server.dashboard.parts import Chip, Text, Time, Tone, icon
from lefleet_server.dashboard.sections import page_for
from lefleet_server.services import Services
from lefleet_server.units import lasting

PATH = "/people"
ROLE_TONES: dict[str, Tone] = {"viewer": "off", "operator": "live", "admin": "warn"}
ROLES = {
    Role.VIEWER: "looks at everything, changes nothing",
    Role.OPERATOR: "also labels episodes and stops arms",
    Role.ADMIN: "also keeps people, credentials and the audit log",
}
_COLUMNS = (
    Column("Person", "minmax(140px, 2fr)"),
    Column("Role", "116px"),
    Column("Last log-in", "minmax(120px, 1fr)"),
    Column("Log-ins", "88px", "is-right"),
    Column("Tokens", "88px", "is-right"),
    Column("Added", "minmax(110px, 1fr)", "is-right"),
    Column("", "18px"),
)


class Inviter:
    """A new account, or a new log-in link for one that is there."""

    def __init__(self, services: Services, acting: Acting) -> None:
        self._services = services
        self._acting = acting
        self._secret = Secret()

    async def invite(self, username: str) -> None:
        """Makes a log-in link and shows it, once."""

        def show(code: str) -> None:
            settings = self._services.settings
            text = f"Send it to {username}: it works once, within {lasting(settings.login_code_ttl_s)}. "
            text += "Whoever has it is in. It is never shown again."
            self._secret.show(f"Log-in link for {username}", text, f"{settings.address}/login?code={code}")

        ttl_s = self._services.settings.login_code_ttl_s
        await self._acting.change(
            Role.ADMIN,
            lambda session, who: accounts.create_login_code(session, username, ttl_s, actor(who)),
            show,
        )


class People:
    """One administrator's list."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._acting = Acting(services, request)
        self._inviter = Inviter(services, self._acting)
        text = "They get in by a link that works once, and then choose a password."
        self._dialog = FormDialog("Add a person", text, self._add, "Add and make a link")
        with self._dialog.form.fields():
            field("User name", "username", maxlength="63", autocomplete="off", autofocus="")
            roles = [(role.value, f"{role.value.capitalize()}: {what}") for role, what in ROLES.items()]
            choice("Role", "role", roles, Role.VIEWER.value)
        with head("People", "Who may look, act and administer"):
            add = button("", self._dialog.open, "is-primary", data_key="a", title="Key A")
            with add:
                icon("add")
                Text("Add a person", tag="span")
        self._lines = Lines(_COLUMNS, "People")

    async def refresh(self) -> None:
        async with self._services.db.session() as session:
            found = await accounts_people.people(session)
        with self._lines.rebuild():
            for person in found:
                _build_line(person)

    async def _add(self, values: Values) -> None:
        wanted = read(NewUser, username=one(values, "username"), role=one(values, "role"))
        # Its refusal belongs into the form: the name may be taken.
        who = await self._acting.who(Role.ADMIN)
        if who is None:
            return
        async with self._services.db.transaction() as session:
            await accounts.add_user(session, wanted.username, wanted.role, actor(who))
        self._dialog.close()
        await self._inviter.invite(wanted.username)
        await self.refresh()


def role_chip(role: str) -> Chip:
    return Chip(role.capitalize(), ROLE_TONES.get(role, "off"), "is-plain")


def _build_line(person: Person) -> None:
    below = "" if person.has_password else "No password yet: only log-in links let them in"
    with line(f"{PATH}/{person.username}", data_person=person.username):
        main_cell(person.username, "Disabled" if person.disabled_at else below)
        with cell("Role", "lf-line-chips"):
            role_chip(person.role)
            if person.disabled_at:
                Chip("Disabled", "bad", "is-plain")
        with cell("Last log-in", "lf-muted"):
            Time(person.logged_in_at, "ago")
        with cell("Log-ins", "lf-num is-right"):
            Text(str(person.sessions))
        with cell("Tokens", "lf-num is-right"):
            Text(str(person.tokens))
        with cell("Added", "lf-muted is-right is-wide"):
            Time(person.created_at)
        icon("next").classes("lf-go")


def register(services: Services) -> None:
    @page_for(PATH, "People", Role.ADMIN)
    async def page(request: Request) -> None:
        with frame(request, "People"):
            await People(services, request).refresh()
