"""Emergency stops on the fleet page: one press stops, a release is confirmed. Viewers see, and cannot press."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog
from nicegui import ui
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from lefleet_server.accounts.models import Role, User
from lefleet_server.dashboard.guard import operator_on
from lefleet_server.dashboard.parts import STOP_TONES, Chip, Text, Time, box, icon, set_attribute
from lefleet_server.db import FAILURES
from lefleet_server.problems import Conflict, NotFound
from lefleet_server.robots import stops
from lefleet_server.robots.stops import Stop, StopState
from lefleet_server.services import Services

log = structlog.get_logger()

_NAMED = 8
"""So many robots a question names; the rest is counted."""
_DENIED = "Emergency stops need the role operator"
_AT_THE_ARM = "Stop it at the arm, by its own stop or its power, then press again."
_STAY_CLEAR = "Stay clear of the arm, and try again in a moment."


class Stopper:
    """What one viewer may do about emergency stops. `changed` is called after each press and release."""

    def __init__(
        self, services: Services, request: Request, user: User, changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._services = services
        self._request = request
        self._changed = changed
        self._failed: ui.notification | None = None
        self.allowed = Role(user.role).covers(Role.OPERATOR)
        self._build_question()

    async def stop(self, robot_id: str) -> None:
        """At once: whoever presses this has no time for a question."""
        await self._stop_each([robot_id])

    async def stop_all(self) -> None:
        with self._telling("NOT stopped", ["The fleet"], _AT_THE_ARM):
            if not (actor := await self._actor()):
                return
            async with self._services.db.transaction() as session:
                await stops.stop_all(session, actor)
        await self._changed()

    async def stop_many(self, robot_ids: Sequence[str]) -> None:
        """After a question: some of those chosen may be out of sight."""
        text = "Emergency stop of the robots chosen? Each arm holds still where it is until it is released."
        if await self._ask("Stop", robot_ids, text, "Stop them"):
            await self._stop_each(robot_ids)

    async def release(self, seen: Mapping[str, int]) -> None:
        """Robots with the number of the stop that the viewer saw, after a question."""
        text = "The arm may move at once. Make sure that nobody is within its reach."
        if not await self._ask("Release", list(seen), text, "Release"):
            return
        with self._telling("NOT released", left := list(seen), _STAY_CLEAR):
            await self._each(left, lambda session, actor, robot: stops.release(session, actor, robot, seen[robot]))
        await self._changed()

    async def _stop_each(self, robot_ids: Sequence[str]) -> None:
        with self._telling("NOT stopped", left := list(robot_ids), _AT_THE_ARM):
            await self._each(left, stops.stop)
        await self._changed()

    async def _each(self, left: list[str], work: Callable[[AsyncSession, str, str], Awaitable[object]]) -> None:
        """Takes each robot from `left` as it is done."""
        actor = await self._actor()
        while actor and left:
            try:
                async with self._services.db.transaction() as session:
                    await work(session, actor, left[0])
            except (NotFound, Conflict) as error:
                ui.notify(error.detail, type="negative")
            del left[0]

    @contextmanager
    def _telling(self, what: str, left: Sequence[str], remedy: str) -> Iterator[None]:
        """Says so when the database is away, until it is closed or tried again: for which robots, and what to do."""
        if self._failed is not None and not self._failed.is_deleted:
            self._failed.dismiss()
        try:
            yield
        except FAILURES as error:
            log.warning("an emergency stop or release failed", what=what, robots=left, error=str(error)[:300])
            text = f"{_names(left)}: {what}. The server's database does not answer. {remedy}"
            self._failed = ui.notification(text, type="negative", timeout=None, close_button="Close", multi_line=True)

    def button(self, text: str, classes: str, press: Callable[[], Awaitable[None]], label: str) -> ui.element:
        button = box(f"lf-button {classes}", tag="button", type="button", aria_label=label)
        with button:
            if "is-danger" in classes:
                icon("stop")
            Text(text, tag="span")
        if self.allowed:
            return button.on("click", press)
        button.props.update({"disabled": True, "title": _DENIED})
        return button

    async def _actor(self) -> str | None:
        actor = await operator_on(self._services.db, self._request)
        if actor is None:
            ui.notify(f"{_DENIED}: log in again, or stop the arm at the robot.", type="negative")
        return actor

    async def _ask(self, what: str, robot_ids: Sequence[str], text: str, yes: str) -> bool:
        self._question.show(f"{what} {_names(robot_ids)}?")
        self._text.show(text)
        self._yes.show(yes)
        self._no.show("Keep it stopped" if what == "Release" else "Cancel")
        return bool(await self._dialog)

    def _build_question(self) -> None:
        with ui.dialog() as self._dialog, box("lf-card lf-question", role="alertdialog", aria_label="Are you sure"):
            self._question = Text("", tag="h2")
            self._text = Text("", tag="p")
            with box("lf-question-foot"):
                self._no = self._answer("", False)
                self._yes = self._answer("is-primary", True)

    def _answer(self, classes: str, value: bool) -> Text:
        button = box(f"lf-button {classes}", tag="button", type="button").on(
            "click", lambda: self._dialog.submit(value)
        )
        with button:
            return Text("", tag="span")


def _names(robot_ids: Sequence[str]) -> str:
    return ", ".join(robot_ids[:_NAMED]) + (f" and {len(robot_ids) - _NAMED} more" * (len(robot_ids) > _NAMED))


class StopRow:
    """The emergency stop of one robot: a button, or how far it has got and who asked."""

    def __init__(self, stopper: Stopper, robot_id: str) -> None:
        self._stopper = stopper
        self._id = robot_id
        self._number = 0
        with box("lf-stop") as self._row:
            with box("lf-stop-said") as self._said:
                self._chip = Chip("", "")
                with box("lf-stop-who lf-cut") as self._who:
                    self._by = Text("", tag="span")
                    self._at = Time(None, "ago")
            self._press = stopper.button("Emergency stop", "is-danger", self._stop, f"Emergency stop of {robot_id}")
            self._release = stopper.button("Release", "", self._ask, f"Release {robot_id}")
            self._note = Text("", "lf-stop-note")

    def set_visibility(self, visible: bool) -> None:
        self._row.set_visibility(visible)

    def show(self, stop: Stop, online: bool) -> None:
        self._number = stop.number
        set_attribute(self._row, "data-stop", stop.state.value)
        free, wanted = stop.state is StopState.FREE, stop.state in (StopState.STOPPING, StopState.STOPPED)
        self._said.set_visibility(not free)
        self._press.set_visibility(not wanted)
        self._release.set_visibility(wanted)
        self._chip.set(stop.state.value.capitalize(), STOP_TONES[stop.state])
        self._who.set_visibility(stop.asked_by is not None)
        self._by.show(f"by {(stop.asked_by or '').removeprefix('user:')}, ")
        self._at.set(stop.asked_at)
        unreached = stop.state is StopState.STOPPING and not online
        self._note.show("It does not answer. Stop it at the robot; it obeys once it is back.")
        self._note.set_visibility(unreached)

    async def _stop(self) -> None:
        await self._stopper.stop(self._id)

    async def _ask(self) -> None:
        await self._stopper.release({self._id: self._number})


class StopAll:
    """The emergency stop of the whole fleet, and the release of all that are stopped."""

    def __init__(self, stopper: Stopper) -> None:
        self._stopper = stopper
        self._seen: dict[str, int] = {}
        self._release = stopper.button("Release all", "", self._ask, "Release all robots")
        self._press = stopper.button("Stop all", "is-danger", stopper.stop_all, "Emergency stop of all robots")

    def show(self, robots: Mapping[str, Stop]) -> None:
        wanted = (StopState.STOPPING, StopState.STOPPED)
        self._seen = {robot_id: stop.number for robot_id, stop in robots.items() if stop.state in wanted}
        self._press.set_visibility(bool(robots))
        self._release.set_visibility(len(self._seen) > 1)

    async def _ask(self) -> None:
        await self._stopper.release(dict(self._seen))
