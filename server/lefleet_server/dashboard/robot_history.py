"""The robot's page, what changes seldom: its episodes, events, calibration and notes."""

from collections.abc import Sequence

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.auth import user_of
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.markdown import to_html
from lefleet_server.dashboard.parts import Text, Time, box, link, outcome_chip
from lefleet_server.dashboard.queries import EpisodeRow
from lefleet_server.dashboard.robot_queries import RATED, Rate
from lefleet_server.problems import Conflict
from lefleet_server.robots import notes
from lefleet_server.robots.events import Event
from lefleet_server.robots.models import RobotChange, RobotNotes
from lefleet_server.services import Services
from lefleet_server.units import DASH, duration, percent, repo_name

_NOTES_MAX = 20_000
_VALUE = "(event) => emit(event.target.value)"


class Episodes:
    """The newest few, and how many of the judged ones were a success."""

    def __init__(self, robot_id: str) -> None:
        self._shown: object = None
        with box("lf-card lf-panel", tag="section"):
            with box("lf-panel-head"):
                Text("Episodes", tag="h2")
                with link(Filters(robot=robot_id).address("/episodes")):
                    Text("All of them", "lf-muted", tag="span")
            self._body = box()

    def show(self, rows: Sequence[EpisodeRow], rate: Rate) -> None:
        if self._shown == (rows, rate):
            return
        self._shown = (rows, rate)
        self._body.clear()
        with self._body:
            if not rows:
                Text("None yet. Each one appears here once the robot has sent it.", "lf-muted", tag="p")
                return
            self._rate(rate)
            for row in rows:
                with link(f"/episodes/{row.id}", "lf-brief", data_episode=row.id):
                    outcome_chip(row.result)
                    Text(row.task or repo_name(row.policy_repo) or DASH, "lf-cut", tag="span")
                    Text(duration(row.duration_s), "lf-num lf-muted", tag="span")
                    Time(row.started_at, "ago")

    def _rate(self, rate: Rate) -> None:
        with box("lf-rate"):
            if rate.interval is None:
                Text("None judged yet", "lf-muted", tag="span")
                return
            low, high = rate.interval
            Text(f"{percent(rate.successes, rate.judged)} %", "lf-rate-value", tag="b")
            said = f"success, {100 * low:.0f} to {100 * high:.0f} % with 95 % confidence"
            Text(said, tag="span")
            Text(f"{rate.successes} of {rate.judged} judged among the newest {RATED}", "lf-faint", tag="span")
            with box("lf-rate-bar"):
                box(tag="i").style(f"left: {100 * low:.1f}%; right: {100 - 100 * high:.1f}%")
                box(tag="b").style(f"left: {100 * rate.successes / rate.judged:.1f}%")


class Events:
    """What people did to it, and what it said differently than before."""

    def __init__(self) -> None:
        self._shown: Sequence[Event] | None = None
        with box("lf-card lf-panel", tag="section"):
            Text("Events", tag="h2")
            self._body = box("lf-events")

    def show(self, events: Sequence[Event]) -> None:
        if events == self._shown:
            return
        self._shown = events
        self._body.clear()
        with self._body:
            if not events:
                Text("Nothing yet.", "lf-muted", tag="p")
            for event in events:
                with box("lf-event"):
                    with box():
                        Text(event.what, tag="b")
                        Text(f" {event.detail}" if event.detail else "", "lf-muted", tag="span")
                        Text(f" by {event.by}" if event.by else "", "lf-muted", tag="span")
                    Time(event.at)


class Calibrations:
    """The arm's calibration now and before: numbers mean other places under another one."""

    def __init__(self) -> None:
        self._shown: list[int] | None = None
        with box("lf-card lf-panel", tag="section"):
            Text("Calibration", tag="h2")
            self._body = box("lf-events")

    def show(self, changes: Sequence[RobotChange]) -> None:
        if [change.id for change in changes] == self._shown:
            return
        self._shown = [change.id for change in changes]
        self._body.clear()
        with self._body:
            if not changes:
                Text("This robot did not tell its calibration yet.", "lf-muted", tag="p")
            for place, change in enumerate(changes):
                with box("lf-event"):
                    fingerprint = change.new
                    shown = fingerprint if len(fingerprint) <= 20 else f"{fingerprint[:12]}…{fingerprint[-6:]}"
                    button = Text(shown, "lf-copy", tag="button")
                    button.props.update({"type": "button", "data-copy": fingerprint, "title": "Press to copy"})
                    with box("lf-muted"):
                        Text("since " if place == 0 else "from ", tag="span")
                        Time(change.at)


class Notes:
    """Markdown that people write about the robot; who writes is told when somebody else did meanwhile."""

    def __init__(self, services: Services, request: Request, robot_id: str) -> None:
        self._services = services
        self._request = request
        self._id = robot_id
        self._notes: RobotNotes | None = None
        self._draft: str | None = None
        self._may_write = Role(user_on(request).role).covers(Role.OPERATOR)
        with box("lf-card lf-panel lf-notes", tag="section"):
            with box("lf-panel-head"):
                Text("Notes", tag="h2")
                self._edit = self._button("Edit", "", self._begin)
            self._shown = ui.html("").classes("nicegui-markdown lf-markdown")
            self._empty = Text("Nobody wrote anything yet.", "lf-muted", tag="p")
            self._by = box("lf-faint lf-notes-by")
            self._editor = box("lf-notes-editor")
        self._show_all()

    def show(self, found: RobotNotes | None) -> None:
        """What is in the database now; an editor that is open is left alone."""
        old = self._notes.version if self._notes else 0
        if self._draft is None and (found.version if found else 0) != old:
            self._notes = found
            self._show_all()

    def _build_editor(self, text: str) -> None:
        self._editor.clear()
        with self._editor:
            # As its content: the property `value` would be set anew whenever the page changes, over what was typed.
            area = Text(text, "lf-input", tag="textarea")
            area.props.update({"rows": "9", "aria-label": "Notes", "maxlength": str(_NOTES_MAX)})
            area.on("input", self._typed, js_handler=_VALUE)
            Text("Markdown. Everybody who may log in reads it.", "lf-faint")
            with box("lf-question-foot"):
                self._button("Cancel", "", self._cancel)
                self._button("Save", "is-primary", self._save)

    def _button(self, text: str, classes: str, press: object) -> ui.element:
        button = box(f"lf-button {classes}", tag="button", type="button").on("click", press)  # type: ignore[arg-type]
        with button:
            Text(text, tag="span")
        return button

    def _show_all(self) -> None:
        text = self._notes.text if self._notes else ""
        editing = self._draft is not None
        self._shown.set_content(to_html(text))
        self._shown.set_visibility(bool(text) and not editing)
        self._empty.set_visibility(not text and not editing)
        if not editing:
            self._editor.clear()
        self._editor.set_visibility(editing)
        self._edit.set_visibility(self._may_write and not editing)
        self._by.clear()
        with self._by:
            if self._notes and not editing:
                Text(f"{self._notes.written_by.removeprefix('user:')}, ", tag="span")
                Time(self._notes.written_at, "ago")

    def _typed(self, event: GenericEventArguments) -> None:
        self._draft = str(event.args)

    def _begin(self) -> None:
        self._draft = self._notes.text if self._notes else ""
        self._build_editor(self._draft)
        self._show_all()

    def _cancel(self) -> None:
        self._draft = None
        self._show_all()

    async def _save(self) -> None:
        # The page may have been open for a day: what counts is what this person may do now.
        user = await user_of(self._services.db, self._request)
        if user is None or not Role(user.role).covers(Role.OPERATOR):
            ui.notify("Writing notes needs the role operator: log in again.", type="negative")
            return
        text = (self._draft or "").replace("\x00", "")[:_NOTES_MAX]
        version = self._notes.version if self._notes else 0
        try:
            async with self._services.db.transaction() as session:
                written = await notes.write(session, f"user:{user.username}", self._id, text, version)
        except Conflict as error:
            ui.notify(f"Not saved: {error.detail}", type="negative", multi_line=True)
            return
        # Only what is committed: whoever saves again after a failure must name the version that is there.
        self._notes, self._draft = written, None
        self._show_all()
