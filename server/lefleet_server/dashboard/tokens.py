"""API tokens: one's own, and for administrators everybody's."""

from starlette.requests import Request

from lefleet_server.accounts import tokens as service
from lefleet_server.accounts.models import ApiToken, Role
from lefleet_server.accounts.roles import Scope
from lefleet_server.accounts.schemas import NewToken
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.dialogs import (
    FormDialog,
    Question,
    Secret,
    Values,
    button,
    check,
    choice,
    field,
    one,
    read,
)
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Text, box, icon, link
from lefleet_server.dashboard.sections import page_for
from lefleet_server.dashboard.token_list import TokenList
from lefleet_server.services import Services

PATH = "/tokens"
# What each scope allows, and the least role to whom it is of use.
_SCOPES = {
    Scope.READ: (Role.VIEWER, "look at robots and episodes, download files"),
    Scope.METRICS: (Role.VIEWER, "read metrics, for Prometheus"),
    Scope.OPERATE: (Role.OPERATOR, "label episodes, stop arms, retry jobs"),
    Scope.ADMIN: (Role.ADMIN, "keep people, credentials and the audit log"),
}
_DAYS = [("7", "A week"), ("30", "30 days"), ("90", "90 days"), ("366", "A year")]


class Tokens:
    """One viewer's tokens."""

    def __init__(self, services: Services, request: Request, everyones: bool) -> None:
        self._services = services
        self._everyones = everyones
        self._user = user_on(request)
        self._acting = Acting(services, request)
        self._question = Question()
        self._secret = Secret()
        text = "It does what you tick, and never more than you may yourself."
        self._dialog = FormDialog("New token", text, self._create, "Make the token")
        with self._dialog.form.fields():
            self._build_fields(Role(self._user.role))
        with head("Tokens", "What programs send instead of a log-in"):
            if self._user.role == Role.ADMIN:
                self._build_switch()
            add = button("", self._dialog.open, "is-primary", data_key="n", title="Key N")
            with add:
                icon("add")
                Text("New token", tag="span")
        self._list = TokenList(self._revoke, with_owner=everyones)

    def _build_fields(self, role: Role) -> None:
        field("What it is for", "name", maxlength="100", autocomplete="off", placeholder="training on gpu-1")
        with box("lf-checks", role="group", aria_label="What it may do"):
            for scope, (needs, what) in _SCOPES.items():
                if role.covers(needs):
                    check(scope.value.capitalize(), "scopes", scope.value, what, checked=scope is Scope.READ)
        choice("Expires after", "days", _DAYS, "90")

    def _build_switch(self) -> None:
        with box("lf-segments", role="group", aria_label="Whose"):
            for word, target, pressed in (
                ("Mine", PATH, not self._everyones),
                ("Everybody's", f"{PATH}?whose=all", self._everyones),
            ):
                made = link(target, "lf-segment", aria_pressed="true" if pressed else "false")
                with made:
                    Text(word, tag="span")

    async def refresh(self) -> None:
        async with self._services.db.session() as session:
            found = await service.owned_tokens(session)
        self._list.show([(t, owner) for t, owner in found if self._everyones or t.user_id == self._user.id])

    async def _create(self, values: Values) -> None:
        wanted = read(NewToken, name=one(values, "name"), scopes=values.get("scopes", []), days=one(values, "days"))
        who = await self._acting.who(Role.VIEWER)
        if who is None:
            return
        async with self._services.db.transaction() as session:
            made, secret = await service.create_token(session, who.user, wanted.name, wanted.scopes, wanted.days)
        self._dialog.close()
        self._secret.show(f"Token {made.name}", "Copy it now: the server keeps only its hash.", secret)
        await self.refresh()

    async def _revoke(self, token: ApiToken) -> None:
        text = "The program that uses it is refused from now on. A revoked token does not come back."
        if not await self._question.ask(f"Revoke {token.name}?", text, "Revoke"):
            return
        await self._acting.change(
            Role.VIEWER,
            lambda session, who: service.revoke_token(
                session, token.id, None if who.user.role == Role.ADMIN else who.user.id, actor(who)
            ),
            lambda _: self.refresh(),
        )


def register(services: Services) -> None:
    @page_for(PATH, "Tokens", Role.VIEWER)
    async def page(request: Request) -> None:
        everyones = request.query_params.get("whose") == "all" and user_on(request).role == Role.ADMIN
        with frame(request, "Tokens"):
            await Tokens(services, request, everyones).refresh()
