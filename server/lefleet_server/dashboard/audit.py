"""The audit log: who changed what, when and from where. For administrators."""

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.audit import service
from lefleet_server.audit.models import AuditEntry
from lefleet_server.dashboard import people_queries
from lefleet_server.dashboard.audit_view import PATH, AuditView, word
from lefleet_server.dashboard.audit_words import KINDS, changes, instant_of, name_of, phrase, place_of
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.fresh import Fresh
from lefleet_server.dashboard.lists import Column, Lines, Pager, cell, line
from lefleet_server.dashboard.parts import Text, Time, box, empty, link
from lefleet_server.dashboard.sections import page_for
from lefleet_server.dashboard.selects import Select, TimeSpan
from lefleet_server.db import utc_now
from lefleet_server.services import Services

_ROWS = 50
_VALUE = "(event) => emit(event.target.value)"
_COLUMNS = (
    Column("When", "148px"),
    Column("Who", "minmax(100px, 0.8fr)"),
    Column("What", "minmax(150px, 1fr)"),
    Column("Details", "minmax(180px, 2.2fr)"),
    Column("From", "minmax(110px, 0.7fr)"),
)

type Apply = Callable[[AuditView], Awaitable[None]]


class AuditBar:
    """The line of filters over the log; `apply` gets the view of the first page whenever one changes."""

    def __init__(self, view: AuditView, actors: Sequence[str], apply: Apply) -> None:
        self._view = view
        self._apply = apply
        with box("lf-filters", role="search"):
            who = [(actor, name_of(actor)) for actor in dict.fromkeys([*actors, *filter(None, [view.actor])])]
            Select("Who", "Everybody", who, view.actor, self._chosen("actor"))
            what = dict.fromkeys([*KINDS, *filter(None, [view.action])])
            Select(
                "What",
                "All changes",
                [(w, KINDS.get(w) or phrase(w)) for w in what],
                view.action,
                self._chosen("action"),
            )
            about = box("lf-input lf-filter-text", tag="input", type="search", aria_label="About")
            # As the attribute (^): the property would be set anew whenever the page changes, over what was typed.
            about.props.update(
                {"placeholder": "About: robot:robot-1", "maxlength": "300", "^value": view.subject or ""}
            )
            about.on("change", self._chosen("subject"), js_handler=_VALUE)
            TimeSpan(view.last, view.since, view.until, self._change)
            self._clear = link(PATH, "lf-button lf-filters-end")
            with self._clear:
                Text("Clear filters", tag="span")
        self._clear.set_visibility(view.is_set)

    def _chosen(self, name: str) -> Callable[[GenericEventArguments], Awaitable[None]]:
        async def change(event: GenericEventArguments) -> None:
            await self._change(**{name: word(str(event.args))})

        return change

    async def _change(self, **changed: object) -> None:
        self._view = self._view.changed(**changed)
        self._clear.set_visibility(self._view.is_set)
        await self._apply(self._view)


class AuditLog:
    """One administrator's look at the log."""

    def __init__(self, fresh: Fresh, services: Services, view: AuditView, actors: Sequence[str]) -> None:
        self._fresh = fresh
        self._services = services
        self._view = view
        with head("Audit log", "Every change by a person, a token or a robot, newest first; nobody can alter it"):
            pass
        AuditBar(view, actors, self._apply)
        self._lines = Lines(_COLUMNS, "Audit log")
        self._pager = Pager()

    async def refresh(self) -> None:
        async with self._services.db.session() as session:
            found = await service.list_entries(session, self._view.filter(utc_now()), _ROWS, self._view.before)
        if not found.items:
            self._build_empty()
        else:
            with self._lines.rebuild():
                for entry in found.items:
                    _build_line(entry)
        last = found.next_cursor
        newest = self._view.changed().address() if self._view.before is not None else None
        older = self._view.changed(before=last).address() if last is not None else None
        self._pager.show(f"{len(found.items)} entries on this page", newest, older)

    async def _apply(self, view: AuditView) -> None:
        self._view = view
        ui.navigate.history.replace(view.address())
        await self._fresh.now(self.refresh)

    def _build_empty(self) -> None:
        with self._lines.only():
            if self._view.is_set:
                text = "Nothing matches these filters. Widen the time, or take a filter away."
                with empty("audit", "No such entry", text), link(PATH, "lf-button"):
                    Text("Show the whole log", tag="span")
            else:
                empty("audit", "Nothing older", "The log begins after this page.")


def _build_line(entry: AuditEntry) -> None:
    with line(classes="is-top", data_entry=str(entry.id), data_action=entry.action):
        with cell("When", "lf-muted"):
            Time(entry.at)
        with cell("Who", "lf-cut"), link(AuditView(actor=entry.actor).address(), "lf-link-quiet"):
            Text(name_of(entry.actor), "lf-cut", tag="span")
        with box("lf-line-cell is-main"):
            Text(phrase(entry.action), "lf-cell-main")
            _build_subject(entry.subject)
        with cell("Details", "lf-entry-details"):
            for name, text in changes(entry.detail):
                with box("lf-entry-change"):
                    Text(f"{name}: ", "lf-faint", tag="span")
                    if at := instant_of(text):
                        Time(at, "long")
                    else:
                        Text(text, tag="span")
        with cell("From", "lf-faint"):
            if place := entry.address or ("the server's console" if entry.actor == "console" else ""):
                Text(place)
            if entry.via:
                Text(f"by {entry.via}", "lf-mono lf-cut")
            if entry.request_id:
                made = Text(f"request {entry.request_id[:8]}…", "lf-copy", tag="button")
                made.props.update({"type": "button", "data-copy": entry.request_id})
                made.props["title"] = f"Request {entry.request_id}, as in the server's log lines (press to copy)"


def _build_subject(subject: str) -> None:
    place = place_of(subject)
    if place is None:
        Text(subject, "lf-cell-sub lf-cut")
        return
    with link(place, "lf-cell-sub lf-link-quiet lf-cut"):
        Text(name_of(subject), "lf-cut", tag="span")


def register(services: Services) -> None:
    @page_for(PATH, "Audit log", Role.ADMIN)
    async def page(request: Request) -> None:
        view = AuditView.parse(request.query_params)
        async with services.db.session() as session:
            actors = await people_queries.actors(session)
        with frame(request, "Audit") as fresh:
            await AuditLog(fresh, services, view, actors).refresh()
