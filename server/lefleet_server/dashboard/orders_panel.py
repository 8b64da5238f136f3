"""Rest, the task and a reboot on a robot's page: what people ordered, how far the robot has got, and to order more."""

from collections.abc import Awaitable, Callable

from nicegui import ui
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard import orders_words as words
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.dialogs import (
    FormDialog,
    Question,
    Values,
    button,
    field,
    one,
    read,
    reason,
    reason_field,
)
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.orders_words import Said
from lefleet_server.dashboard.parts import Chip, Text, Time, box
from lefleet_server.robots import orders, reboots
from lefleet_server.robots.orders import Kind
from lefleet_server.robots.state import RobotState
from lefleet_server.robots.wish_schemas import TaskIn
from lefleet_server.services import Services

_DENIED = "Rest, tasks and reboots need the role operator"
READ_BY = "Everybody who may log in reads it; it stays in the audit log."


class OrdersPanel:
    """Operators order; viewers see, and cannot press. `changed` is called after each order from this page."""

    def __init__(
        self, services: Services, request: Request, robot_id: str, changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._services = services
        self._acting = Acting(services, request)
        self._id = robot_id
        self._changed = changed
        self._allowed = Role(user_on(request).role).covers(Role.OPERATOR)
        self._ordered, self._told = "", ""
        self._build_dialogs()
        with box("lf-card lf-panel lf-orders", tag="section", data_panel="work") as self._panel:
            with box("lf-panel-head"):
                Text("Work", tag="h2")
                self._chip = Chip("", "", "is-plain")
            with box("lf-provenance", tag="dl"):
                self._task, self._next = _Row("Task"), _Row("Next task")
                self._rest, self._reboot = _Row("Rest"), _Row("Reboot")
            self._hindrance = Text("", "lf-panel-text lf-orders-hindrance")
            with box("lf-panel-acts"):
                self._let_rest = self._button("Let it rest", self._rest_dialog.open)
                self._go_on = self._button("Let it go on", self._ask_to_go_on)
                self._button("Change the task", self._open_task)
                self._reboots = self._button("Reboot", self._reboot_dialog.open)

    def _build_dialogs(self) -> None:
        self._question = Question()
        text = "It finishes its episode and begins no other, whatever restarts, until somebody lets it go on."
        self._rest_dialog = FormDialog(f"Let {self._id} rest?", text, self._order_rest, "Let it rest")
        with self._rest_dialog.form.fields():
            reason_field(READ_BY)
        text = "Its computer starts anew once its episode has ended, and the robot goes on as it does now."
        self._reboot_dialog = FormDialog(f"Reboot {self._id}?", text, self._order_reboot, "Reboot")
        with self._reboot_dialog.form.fields():
            reason_field(READ_BY)
        text = "From its next episode on. Policies that read no language take no notice."
        self._task_dialog = FormDialog(f"What is {self._id} to do?", text, self._order_task, "Change")

    def _button(self, word: str, press: Callable[[], object]) -> ui.element:
        made = button(word, press)
        if not self._allowed:
            made.props.update({"disabled": True, "title": _DENIED})
        return made

    def show(self, robot: RobotState) -> None:
        wanted = robot.rest is not None and robot.rest.wanted
        self._ordered = (robot.task_order.text if robot.task_order else None) or ""
        self._told = robot.said.get("task", "")
        hindrance, (word, tone) = words.hindrance(robot), words.chip(robot)
        self._panel.set_visibility(not robot.retired)
        self._chip.set(word, tone)
        self._chip.set_visibility(bool(word))
        self._task.show(words.task(robot))
        self._next.show(words.next_task(robot))
        self._rest.show(words.rest(robot))
        self._reboot.show(words.reboot(robot))
        self._reboots.set_visibility(robot.online and reboots.takes(robot.said))
        self._hindrance.show(hindrance)
        self._hindrance.set_visibility(bool(hindrance))
        self._let_rest.set_visibility(not wanted)
        self._go_on.set_visibility(wanted)

    async def _order_rest(self, values: Values) -> None:
        why = reason(values)
        await self._order(
            self._rest_dialog, lambda session, who: orders.say(session, who, self._id, Kind.REST, True, why)
        )

    async def _order_reboot(self, values: Values) -> None:
        why, offline_after_s = reason(values), self._services.settings.offline_after_s
        await self._order(
            self._reboot_dialog, lambda session, who: reboots.ask(session, who, self._id, offline_after_s, why)
        )

    async def _ask_to_go_on(self) -> None:
        text = (
            "The arm may move at once, unless somebody at the robot wants it to rest. "
            "Make sure that nobody is within its reach."
        )
        if await self._question.ask(f"Let {self._id} go on?", text, "Let it go on"):
            await self._acting.change(
                Role.OPERATOR,
                lambda session, who: orders.say(session, actor(who), self._id, Kind.REST, False),
                lambda _: self._changed(),
            )

    def _open_task(self) -> None:
        """With what is ordered now, to be changed; built here and not in `show`, which would take what was typed."""
        with self._task_dialog.form.fields():
            hint = "Empty: what the robot's settings say."
            field(
                "Task", "text", hint=hint, value=self._ordered, required=False,
                placeholder=self._told, maxlength="500", autocomplete="off", autofocus="",
            )  # fmt: skip
        self._task_dialog.open()

    async def _order_task(self, values: Values) -> None:
        text = read(TaskIn, text=one(values, "text") or None).text
        await self._order(self._task_dialog, lambda session, who: orders.say(session, who, self._id, Kind.TASK, text))

    async def _order(self, dialog: FormDialog, say: Callable[[AsyncSession, str], Awaitable[object]]) -> None:
        """Raises what the form tells, which stays open with what was typed."""
        who = await self._acting.who(Role.OPERATOR)
        if who is None:
            return
        async with self._services.db.transaction() as session:
            await say(session, actor(who))
        dialog.close()
        await self._changed()


class _Row:
    """A name, and below each other what was said and who said so when."""

    def __init__(self, name: str) -> None:
        self._name = Text(name, tag="dt")
        with box(tag="dd", data_row=name) as self._value:
            self._text = Text("")
            with box("lf-faint") as self._line:
                self._before, self._at, self._after = Text("", tag="span"), Time(None, "ago"), Text("", tag="span")

    def show(self, said: Said | None) -> None:
        self._name.set_visibility(said is not None)
        self._value.set_visibility(said is not None)
        if said is None:
            return
        self._text.show(said.text)
        self._text.set_visibility(bool(said.text))
        self._before.show(said.before)
        self._at.set(said.at)
        self._after.show(said.after)
        self._line.set_visibility(said.at is not None)
