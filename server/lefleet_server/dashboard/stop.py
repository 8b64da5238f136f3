"""Emergency stops on the fleet page: one press stops, a release is confirmed. Viewers see, and cannot press."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from nicegui import ui
from starlette.requests import Request

from lefleet_server.accounts.models import Role, User
from lefleet_server.dashboard.guard import operator_on
from lefleet_server.dashboard.parts import STOP_TONES, Chip, Text, Time, box, icon, set_attribute
from lefleet_server.problems import Conflict, NotFound
from lefleet_server.robots import stops
from lefleet_server.robots.stops import Stop, StopState
from lefleet_server.services import Services

_NAMED = 8
"""So many robots a question names; the rest is counted."""
_DENIED = "Emergency stops need the role operator"


class Stopper:
    """What one viewer may do about emergency stops. `changed` is called after each press and release."""

    def __init__(
        self, services: Services, request: Request, user: User, changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._services = services
        self._request = request
        self._changed = changed
        self.allowed = Role(user.role).covers(Role.OPERATOR)
        self._build_question()

    async def stop(self, robot_id: str) -> None:
        """At once: whoever presses this has no time for a question."""
        if actor := await self._actor():
            try:
                async with self._services.db.transaction() as session:
                    await stops.stop(session, actor, robot_id)
            except (NotFound, Conflict) as error:
                ui.notify(error.detail, type="negative")
            await self._changed()

    async def stop_all(self) -> None:
        if actor := await self._actor():
            async with self._services.db.transaction() as session:
                await stops.stop_all(session, actor)
            await self._changed()

    async def stop_many(self, robot_ids: Sequence[str]) -> None:
        """After a question: some of those chosen may be out of sight."""
        text = "Emergency stop of the robots chosen? Each arm holds still where it is until it is released."
        if not await self._ask("Stop", robot_ids, text, "Stop them") or not (actor := await self._actor()):
            return
        for robot_id in robot_ids:
            try:
                async with self._services.db.transaction() as session:
                    await stops.stop(session, actor, robot_id)
            except (NotFound, Conflict) as error:
                ui.notify(error.detail, type="negative")
        await self._changed()

    async def release(self, seen: Mapping[str, int]) -> None:
        """Robots with the number of the stop that the viewer saw, after a question."""
        text = "The arm may move at once. Make sure that nobody is within its reach."
        if not await self._ask("Release", list(seen), text, "Release") or not (actor := await self._actor()):
            return
        for robot_id, number in seen.items():
            try:
                async with self._services.db.transaction() as session:
                    await stops.release(session, actor, robot_id, number)
            except (NotFound, Conflict) as error:
                ui.notify(error.detail, type="negative")
        await self._changed()

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
        names = ", ".join(robot_ids[:_NAMED]) + (f" and {len(robot_ids) - _NAMED} more" * (len(robot_ids) > _NAMED))
        self._question.show(f"{what} {names}?")
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
