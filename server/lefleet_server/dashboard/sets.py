"""Named sets of episodes: made, looked into, exported, deleted; and the choice on the table that fills them."""

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui
from nicegui.events import GenericEventArguments
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from lefleet_server.accounts.models import Role, User
from lefleet_server.auth import user_of
from lefleet_server.dashboard.dialogs import Question
from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.fresh import Fresh
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Text, Time, box, empty, icon, link, option
from lefleet_server.dashboard.sections import page_for
from lefleet_server.db import utc_now
from lefleet_server.episodes.service import EpisodeFilter
from lefleet_server.problems import Problem
from lefleet_server.services import Services
from lefleet_server.sets import service
from lefleet_server.sets.schemas import SetName
from lefleet_server.sets.service import MAX_IDS, SetView
from lefleet_server.units import counted, thousands

PATH = "/sets"
_NAME = TypeAdapter(SetName)
_DENIED = "Sets need the role operator"


async def may_change(services: Services, request: Request) -> User | None:
    """The person, when they may change sets now: the page may have been open for a day."""
    user = await user_of(services.db, request)
    if user is None or not Role(user.role).covers(Role.OPERATOR):
        ui.notify(f"{_DENIED}: log in again.", type="negative")
        return None
    return user


class Collector:
    """Puts what is chosen on the table, or all that matches its filters, into a set, or takes it out."""

    def __init__(
        self, services: Services, request: Request, filters: Callable[[], Filters], question: Question
    ) -> None:
        self._services, self._request, self._filters, self._question = services, request, filters, question

    def build(self, sets: Sequence[str], within: str | None) -> ui.element:
        """A select; the browser tells what was chosen on the table with the event "collect"."""
        select = box("lf-select", tag="select", aria_label="Add to a set", data_event="collect")
        with select:
            option("", "Add to a set")
            for name in sets:
                option(f"add:{name}", f"Chosen to {name}")
            if within:
                option(f"remove:{within}", f"Chosen out of {within}")
            for name in sets:
                option(f"add-all:{name}", f"All that match to {name}…")
            for name in sets:
                option(f"remove-all:{name}", f"All that match out of {name}…")
        return select

    async def collect(self, event: GenericEventArguments) -> bool:
        """Whether something went out, which a table may show."""
        said = event.args["detail"]
        what, _, name = str(said["word"]).partition(":")
        ids = [str(id_) for id_ in said["ids"]][:MAX_IDS]
        which = self._filters().which(utc_now())
        try:
            if what.endswith("-all") and not await self._ask(what, name, which):
                return False
            if not (user := await may_change(self._services, self._request)):
                return False
            async with self._services.db.transaction() as session:
                match what:
                    case "add-all":
                        done = await service.add_matching(session, user, name, which)
                    case "remove-all":
                        done = await service.remove_matching(session, user, name, which)
                    case "remove":
                        done = await service.change(session, user, name, remove=ids)
                    case _:
                        done = await service.change(session, user, name, add=ids)
        except Problem as problem:
            ui.notify(problem.detail, type="negative")
            return False
        went = f"{thousands(done.removed)} out of" if "remove" in what else f"{thousands(done.added)} new in"
        ui.notify(f"{went} {name}", type="positive")
        return done.removed > 0

    async def _ask(self, what: str, name: str, which: EpisodeFilter) -> bool:
        async with self._services.db.session() as session:
            if what == "add-all":
                count = await service.count_matching(session, which)
            else:
                count = await service.count_inside(session, name, which)
        if count == 0:
            nothing = "No episode matches." if what == "add-all" else f"None of those that match is in {name}."
            ui.notify(nothing)
            return False
        if what == "add-all":
            text = "All that match the filters. Those that are in it already stay as they are."
            return await self._question.ask(f"Add {counted(count)} to {name}?", text, "Add", danger=False)
        text = "All in it that match the filters. The episodes themselves stay."
        return await self._question.ask(f"Take {counted(count)} out of {name}?", text, "Take out")


class Sets:
    """One viewer's page."""

    def __init__(self, fresh: Fresh, services: Services, request: Request) -> None:
        self._fresh, self._services, self._request = fresh, services, request
        self._allowed = Role(user_on(request).role).covers(Role.OPERATOR)
        with head("Sets", "Episodes collected for training, for a report, or to be looked at again"):
            pass
        if self._allowed:
            self._build_form()
        self._list = box("lf-card lf-sets")
        self._build_question()

    async def refresh(self) -> None:
        async with self._services.db.session() as session:
            found = await service.list_sets(session)
        self._list.clear()
        with self._list:
            if not found:
                text = "Name one above, then choose episodes on their table and add them."
                with empty("episodes", "No sets yet", text), link("/episodes", "lf-button"):
                    Text("To the episodes", tag="span")
            for view in found:
                self._build_set(view)

    def _build_form(self) -> None:
        with box("lf-sets-form", role="form", aria_label="New set"):
            self._name = ui.input(placeholder="Name of a new set").props("borderless dense aria-label=Name")
            self._note = ui.input(placeholder="What it is for").props("borderless dense aria-label=Note")
            for field in (self._name, self._note):
                field.classes("lf-input").on("keydown.enter", self._create)
            with box("lf-button is-primary", tag="button", type="button").on("click", self._create):
                Text("Create", tag="span")

    def _build_set(self, view: SetView) -> None:
        name = view.set.name
        with box("lf-sets-row", data_set=name):
            with box("lf-cell"):
                with link(Filters(in_set=name).address("/episodes")):
                    Text(name, "lf-cell-main lf-cut")
                Text(view.set.note or "No note", "lf-cell-sub lf-cut")
            Text(counted(view.episodes), "lf-num")
            with box("lf-cell-sub"):
                Text(f"{view.set.created_by.removeprefix('user:')}, ", tag="span")
                Time(view.set.created_at)
            with box("lf-actions"):
                with link(f"/api/v1/sets/{name}/export", "lf-button", download=f"{name}.jsonl"):
                    icon("download")
                    Text("JSON lines", tag="span")
                if self._allowed:
                    button = box("lf-button", tag="button", type="button", aria_label=f"Delete {name}")
                    with button.on("click", self._deleter(name)):
                        Text("Delete", tag="span")

    async def _create(self) -> None:
        name = (self._name.value or "").strip()
        try:
            _NAME.validate_python(name)
        except ValidationError:
            ui.notify("A name is up to 63 letters, digits, `.`, `_`, `-`; a letter or digit first.", type="negative")
            return
        if not (user := await may_change(self._services, self._request)):
            return
        try:
            async with self._services.db.transaction() as session:
                await service.create(session, user, name, (self._note.value or "").strip()[:4000])
        except Problem as problem:
            ui.notify(problem.detail, type="negative")
            return
        self._name.value = self._note.value = ""
        await self._fresh.now(self.refresh)

    def _deleter(self, name: str) -> Callable[[], Awaitable[None]]:
        async def delete() -> None:
            self._question.show(f"Delete the set {name}?")
            if not await self._dialog or not (user := await may_change(self._services, self._request)):
                return
            try:
                async with self._services.db.transaction() as session:
                    await service.remove_set(session, user, name)
            except Problem as problem:
                ui.notify(problem.detail, type="negative")
            await self._fresh.now(self.refresh)

        return delete

    def _build_question(self) -> None:
        with ui.dialog() as self._dialog, box("lf-card lf-question", role="alertdialog", aria_label="Delete the set"):
            self._question = Text("", tag="h2")
            Text("Its episodes stay.", tag="p")
            with box("lf-question-foot"):
                for text, classes, value in (("Keep it", "", False), ("Delete", "is-danger", True)):
                    button = box(f"lf-button {classes}", tag="button", type="button")
                    with button.on("click", lambda value=value: self._dialog.submit(value)):
                        Text(text, tag="span")


def register(services: Services) -> None:
    @page_for(PATH, "Sets", Role.VIEWER)
    async def page(request: Request) -> None:
        with frame(request, "Episodes") as fresh:
            await Sets(fresh, services, request).refresh()
