"""Rest, tasks and reboots of the robots chosen on the fleet page: asked about by name, and done robot by robot."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nicegui import ui
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from lefleet_server import db
from lefleet_server.accounts.models import Role
from lefleet_server.dashboard.acting import Acting, actor, told
from lefleet_server.dashboard.dialogs import FormDialog, Values, button, field, one, read, reason, reason_field
from lefleet_server.dashboard.orders_panel import READ_BY
from lefleet_server.dashboard.parts import Text, box
from lefleet_server.problems import Problem
from lefleet_server.robots import orders, reboots, service
from lefleet_server.robots.orders import Kind
from lefleet_server.robots.service import RobotView
from lefleet_server.robots.wish_schemas import TaskIn
from lefleet_server.services import Services

type Say = Callable[[AsyncSession, str, str], Awaitable[object]]
"""Says one order, given who says it and to which robot."""


class What(StrEnum):
    """An order, as the browser names it."""

    REST = "rest"
    GO_ON = "go-on"
    TASK = "task"
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True)
class _Words:
    title: str
    """`{}`: the robot, or how many."""
    text: str
    yes: str
    cannot: str
    """Of those chosen whom nobody asks; `{}`: how many."""
    done: str
    classes: str = "is-primary"


_UNHEARD = "{} will hear nothing of it"
_WORDS = {
    What.REST: _Words(
        "Let {} rest?",
        "Each finishes its episode and begins no other, whatever restarts, until somebody lets it go on.",
        "Let rest",
        _UNHEARD,
        "Asked to rest: {}.",
    ),
    What.GO_ON: _Words(
        "Let {} go on?",
        "Arms may move at once, except where somebody at the robot wants it to rest. "
        "Make sure that nobody is within their reach.",
        "Let go on",
        _UNHEARD,
        "Asked to go on: {}.",
        "is-danger",
    ),
    What.TASK: _Words(
        "Give {} a task?",
        "From the next episode of each on. Policies that read no language take no notice.",
        "Give the task",
        _UNHEARD,
        "Given the task: {}.",
    ),
    What.REBOOT: _Words(
        "Reboot {}?",
        "Each computer starts anew once the episode there has ended, and the robot goes on as it does now.",
        "Reboot",
        "{} cannot be rebooted",
        "Asked to reboot: {}.",
    ),
}


class FleetOrders:
    """What an operator orders of many robots at once. `changed` is called after each order."""

    def __init__(self, services: Services, request: Request, changed: Callable[[], Awaitable[None]]) -> None:
        self._services = services
        self._acting = Acting(services, request)
        self._changed = changed
        self._asked: Sequence[str] = ()
        submits = {
            What.REST: self._rest,
            What.GO_ON: self._go_on,
            What.TASK: self._task,
            What.REBOOT: self._reboot,
        }
        self._dialogs = {
            what: FormDialog(words.title, words.text, submits[what], words.yes, words.classes)
            for what, words in _WORDS.items()
        }
        self._report = _Report()

    async def ask(self, what: What, robot_ids: Sequence[str]) -> None:
        """Shows which robots are meant, and which of those chosen will not be asked and why."""
        await self._acting.look(Role.OPERATOR, self._read, lambda views: self._open(what, robot_ids, views))

    async def _read(self) -> Mapping[str, RobotView]:
        async with self._services.db.session() as session:
            found = await service.list_robots(session, self._services.settings.offline_after_s)
        return {view.robot.id: view for view in found}

    def _open(self, what: What, robot_ids: Sequence[str], views: Mapping[str, RobotView]) -> None:
        hindrances = {robot_id: _hindrance(what, robot_id, views.get(robot_id)) for robot_id in robot_ids}
        self._asked = [robot_id for robot_id, why in hindrances.items() if not why]
        unasked = [why for why in hindrances.values() if why]
        words, dialog = _WORDS[what], self._dialogs[what]
        cannot = words.cannot.format(f"{len(unasked)} of {_count(hindrances)}")
        if not self._asked:
            self._report.show(cannot, unasked)
            return
        dialog.name(words.title.format(_which(self._asked)), words.text)
        with dialog.form.fields():
            Text(", ".join(self._asked), "lf-asked")
            if unasked:
                with box("lf-unasked"):
                    Text(f"{cannot}:", tag="b")
                    _list(unasked)
            if what in (What.REST, What.REBOOT):
                reason_field(READ_BY)
            elif what is What.TASK:
                hint = "Empty: what the settings of each say."
                field("Task", "text", hint=hint, required=False, maxlength="500", autocomplete="off", autofocus="")
        dialog.open()

    async def _rest(self, values: Values) -> None:
        why = reason(values)
        await self._each(What.REST, lambda session, who, robot: orders.say(session, who, robot, Kind.REST, True, why))

    async def _go_on(self, _: Values) -> None:
        await self._each(What.GO_ON, lambda session, who, robot: orders.say(session, who, robot, Kind.REST, False))

    async def _task(self, values: Values) -> None:
        text = read(TaskIn, text=one(values, "text") or None).text
        await self._each(What.TASK, lambda session, who, robot: orders.say(session, who, robot, Kind.TASK, text))

    async def _reboot(self, values: Values) -> None:
        why, offline_after_s = reason(values), self._services.settings.offline_after_s
        await self._each(
            What.REBOOT, lambda session, who, robot: reboots.ask(session, who, robot, offline_after_s, why)
        )

    async def _each(self, what: What, say: Say) -> None:
        who = await self._acting.who(Role.OPERATOR)
        if who is None:
            return
        robot_ids, self._asked = self._asked, ()  # pressed twice, it is ordered once
        self._dialogs[what].close()
        refused = await self._say(say, actor(who), robot_ids)
        if refused:
            self._report.show(f"{len(refused)} of {_count(robot_ids)} did not take it", refused)
        elif robot_ids:
            self._acting.say(_WORDS[what].done.format(_which(robot_ids)), good=True)
        await self._changed()

    async def _say(self, say: Say, who: str, robot_ids: Sequence[str]) -> list[str]:
        """Why robots did not take it, a line for each. Each has a transaction: what one refuses the others still do."""
        refused = []
        for place, robot_id in enumerate(robot_ids):
            try:
                async with self._services.db.transaction() as session:
                    await say(session, who, robot_id)
            except Problem as error:
                refused.append(error.detail)
            except db.FAILURES as error:
                return refused + [f"{each}: {told(error)}" for each in robot_ids[place:]]
        return refused


class _Report:
    """Says of each robot why it did not take an order."""

    def __init__(self) -> None:
        with ui.dialog() as self._dialog, box("lf-card lf-question", role="alertdialog", aria_label="Not done"):
            self._title = Text("", tag="h2")
            self._lines = box("lf-unasked")
            with box("lf-question-foot"):
                button("Close", self._dialog.close)

    def show(self, title: str, lines: Sequence[str]) -> None:
        self._title.show(title)
        self._lines.clear()
        with self._lines:
            _list(lines)
        self._dialog.open()


def _hindrance(what: What, robot_id: str, view: RobotView | None) -> str:
    """Why this robot is not even asked; empty when it is."""
    if view is None:
        return f"no robot {robot_id!r}"
    if what is What.REBOOT:
        return reboots.hindrance(view)
    return orders.retired(robot_id) if view.retired else ""


def _list(lines: Sequence[str]) -> None:
    for line in lines:
        Text(line)


def _count(robot_ids: Sequence[str] | Mapping[str, str]) -> str:
    return f"{len(robot_ids)} robot{'s' * (len(robot_ids) != 1)}"


def _which(robot_ids: Sequence[str]) -> str:
    return robot_ids[0] if len(robot_ids) == 1 else _count(robot_ids)
