"""A robot's credential, for administrators: how it stands, another one, its end; and a first one for a new robot."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.dialogs import FormDialog, Question, Secret, Values, button, field, one
from lefleet_server.dashboard.parts import Chip, Text, Time, box
from lefleet_server.fields import RobotId, Site
from lefleet_server.problems import Invalid
from lefleet_server.robots import credentials, service
from lefleet_server.robots.credentials import Standing
from lefleet_server.services import Services
from lefleet_server.units import lasting

EVERY_S = 5.0
_COMMAND = "sudo lefleet-agent enrol"
_ROBOT_ID, _SITE = TypeAdapter(RobotId), TypeAdapter(Site)


class _Code(Secret):
    """A one-time code, shown once with the command that takes it."""

    def show_code(self, robot_id: str, code: str, ttl_s: float, then: str) -> None:
        text = f"It works once, within {lasting(ttl_s)}, and is never shown again. {then}"
        self.show(f"Code for {robot_id}", text, code, f"Run this on {robot_id}, and give it the code:", _COMMAND)


class NewRobot:
    """A name and a site for a robot that nobody knows yet, or that was revoked; then its code."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._acting = Acting(services, request)
        self._code = _Code()
        text = "It gets a one-time code, and with that a credential of its own, which lies nowhere else."
        self._dialog = FormDialog("Add a robot", text, self._add, "Make its code")

    def open(self) -> None:
        with self._dialog.form.fields():
            hint = "As in the inventory, or as its setting robot_id says"
            field("Name", "robot_id", hint=hint, maxlength="63", autocomplete="off", autofocus="")
            hint = "Where it stands; a label in lists and metrics"
            field("Site", "site", hint=hint, required=False, maxlength="63", autocomplete="off")
        self._dialog.open()

    async def _add(self, values: Values) -> None:
        robot_id, site = _name(one(values, "robot_id")), _place(one(values, "site"))
        who = await self._acting.who(Role.ADMIN)
        if who is None:
            return
        ttl_s = self._services.settings.enrol_code_ttl_s
        async with self._services.db.transaction() as session:
            code = await service.register(session, robot_id, site, ttl_s, actor(who))
        self._dialog.close()
        then = f"A robot of the inventory needs none: make provision LIMIT={robot_id} enrols it by itself."
        self._code.show_code(robot_id, code, ttl_s, then)


class CredentialPanel:
    """`changed` is called after the credential was taken away."""

    def __init__(
        self, services: Services, request: Request, robot_id: str, changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._services = services
        self._acting = Acting(services, request)
        self._id = robot_id
        self._changed = changed
        self._shown: Standing | None = None
        self._question, self._code = Question(), _Code()
        with box("lf-card lf-panel lf-credential", tag="section", data_panel="credential"):
            with box("lf-panel-head"):
                Text("Credential", tag="h2")
                self._chip = Chip("", "", "is-plain")
            self._rows = box("lf-provenance", tag="dl")
            with box("lf-panel-acts"):
                self._rotate = button("Rotate", self._make_code)
                self._bring_back = button("Bring it back", self._make_code)
                self._revoke = button("Revoke", self._ask_revoke, "is-danger")

    async def refresh(self) -> None:
        async with self._services.db.session() as session:
            self._show(await credentials.standing(session, self._id))

    def _show(self, now: Standing) -> None:
        if now == self._shown:
            return
        self._shown = now
        retired = now.since is None
        if retired:
            self._chip.set("Revoked", "bad")
        elif now.renewed_at or now.code_until:
            self._chip.set("Rotating", "warn")
        else:
            self._chip.set("Valid", "good")
        self._rotate.set_visibility(not retired)
        self._revoke.set_visibility(not retired)
        self._bring_back.set_visibility(retired)
        self._rows.clear()
        with self._rows:
            self._build_rows(now)

    def _build_rows(self, now: Standing) -> None:
        if now.since is None:
            _row("State", "The server refuses the robot, which keeps what it has recorded.")
        else:
            _row("In use since", "", now.since)
            _row("Last used", "" if now.used_at else "Not yet", now.used_at, ago=True)
        if now.renewed_at:
            _row("Next one", "The robot has it, and it takes over when it is used first. Given out ", now.renewed_at)
        if now.code_until:
            ends = "" if now.since is None else " Until it is used this credential stays valid."
            _row("Code", f"One is out.{ends} It can be used until ", now.code_until)

    async def _make_code(self) -> None:
        ttl_s = self._services.settings.enrol_code_ttl_s

        async def show(code: str) -> None:
            retired = self._shown is None or self._shown.since is None
            then = "The robot comes back with it." if retired else "The credential that the robot has ends then."
            self._code.show_code(self._id, code, ttl_s, then)
            await self.refresh()

        await self._acting.change(
            Role.ADMIN, lambda session, who: service.code_of_known(session, self._id, ttl_s, actor(who)), show
        )

    async def _ask_revoke(self) -> None:
        text = (
            "The server refuses it from now on: it brings no episodes, and nobody stops or orders it from afar. "
            "Its arm goes on as it does now: stop it first if it must not. "
            "Its episodes here stay; those on it wait there until a new code brings it back."
        )
        if await self._question.ask(f"Revoke the credential of {self._id}?", text, "Revoke"):
            await self._acting.change(
                Role.ADMIN, lambda session, who: service.revoke(session, self._id, actor(who)), self._revoked
            )

    async def _revoked(self, taken: bool) -> None:
        self._acting.say(f"{self._id} is retired." if taken else f"{self._id} was retired already.", good=taken)
        await self.refresh()
        await self._changed()


def _row(name: str, text: str, at: datetime | None = None, *, ago: bool = False) -> None:
    Text(name, tag="dt")
    with box(tag="dd", data_row=name):
        Text(text, tag="span")
        if at is not None:
            Time(at, "ago" if ago else "short")


def _name(text: str) -> str:
    try:
        return _ROBOT_ID.validate_python(text)
    except ValidationError:
        raise Invalid(f"{text!r} is no robot's name: write up to 63 of a-z, 0-9 and -, not - first") from None


def _place(text: str) -> str:
    try:
        return _SITE.validate_python(text)
    except ValidationError:
        raise Invalid(f"{text!r} is no site: write up to 63 letters, digits, `.`, `_` and `-`") from None
