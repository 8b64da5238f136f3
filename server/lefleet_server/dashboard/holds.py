"""All legal holds: what is held, by whom, since when and why; for administrators also to release."""

from functools import partial
from urllib.parse import quote

from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.audit_words import name_of
from lefleet_server.dashboard.dialogs import Question, button
from lefleet_server.dashboard.filters import row_id
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.lists import Column, Lines, Pager, cell, line
from lefleet_server.dashboard.parts import Text, Time, box, empty, icon, link
from lefleet_server.dashboard.sections import page_for
from lefleet_server.deletion import holds
from lefleet_server.deletion.models import LegalHold
from lefleet_server.keyset import Page
from lefleet_server.services import Services

PATH = "/holds"
_ROWS = 50
_EVERY_S = 10.0
_COLUMNS = (
    Column("Held", "minmax(150px, 1fr)"),
    Column("Why", "minmax(180px, 2.2fr)"),
    Column("By", "minmax(90px, 0.6fr)"),
    Column("Since", "148px"),
)
_ACT = Column("", "112px", "is-right")


class Holds:
    """One viewer's page of the list; sends only what changed."""

    def __init__(self, services: Services, request: Request, cursor: int | None) -> None:
        self._services = services
        self._cursor = cursor
        self._acting = Acting(services, request)
        self._question = Question()
        self._may_release = Role(user_on(request).role).covers(Role.ADMIN)
        self._shown: list[tuple[int, str]] | None = None
        text = "No retention rule and nobody deletes what is held, until an administrator releases it"
        with head("Legal holds", text), link("/storage", "lf-button"):
            icon("storage")
            Text("Storage", tag="span")
        self._lines = Lines((*_COLUMNS, _ACT) if self._may_release else _COLUMNS, "Legal holds")
        self._pager = Pager()

    async def refresh(self) -> None:
        async with self._services.db.session() as session:
            page = await holds.list_holds(session, _ROWS, self._cursor)
        now = [(hold.id, hold.reason) for hold in page.items]
        if now != self._shown:
            self._shown = now
            self._show(page)

    def _show(self, page: Page[LegalHold]) -> None:
        if page.items:
            with self._lines.rebuild():
                for hold in page.items:
                    self._build_line(hold)
        else:
            with self._lines.only():
                text = "Operators hold an episode, or all those of a robot, on its page."
                empty("lock", "Nothing is held" if self._cursor is None else "Nothing older is held", text)
        newest = PATH if self._cursor is not None else None
        older = f"{PATH}?before={page.next_cursor}" if page.next_cursor is not None else None
        self._pager.show(f"{len(page.items)} holds on this page", newest, older)

    def _build_line(self, hold: LegalHold) -> None:
        subject = holds.subject(hold)
        with line(classes="is-top", data_hold=subject):
            with box("lf-line-cell is-main"), link(_place(hold), "lf-link-quiet lf-cut"):
                if hold.robot_id is not None:
                    Text(hold.robot_id, "lf-cell-main lf-cut")
                    Text("All of its episodes", "lf-cell-sub")
                else:
                    Text(name_of(subject), "lf-cell-main lf-cut")
                    Text("Episode", "lf-cell-sub")
            with cell("Why", "lf-reason"):
                Text(hold.reason)
            with cell("By", "lf-cut"):
                Text(name_of(hold.placed_by), "lf-cut")
            with cell("Since", "lf-muted"):
                Time(hold.placed_at)
            if self._may_release:
                with cell("", "is-right is-act"):
                    button("Release", partial(self._ask_release, hold), aria_label=f"Release: {subject}")

    async def _ask_release(self, hold: LegalHold) -> None:
        robot, episode = hold.robot_id, hold.episode_id
        what = f"all episodes of {robot}" if robot is not None else f"episode {episode}"
        text = f"It says: {hold.reason}. Retention rules and administrators may delete then what nothing else holds."
        if not await self._question.ask(f"Release the hold on {what}?", text, "Release"):
            return
        if robot is not None:
            release = partial(holds.release_robot, robot_id=robot)
        else:
            release = partial(holds.release_episode, episode_id=str(episode))
        await self._acting.change(
            Role.ADMIN, lambda session, who: release(session, actor=actor(who)), lambda _: self.refresh()
        )


def _place(hold: LegalHold) -> str:
    if hold.robot_id is not None:
        return f"/robots/{quote(hold.robot_id, safe='')}"
    return f"/episodes/{quote(str(hold.episode_id), safe='')}"


def register(services: Services) -> None:
    @page_for(PATH, "Legal holds", Role.VIEWER)
    async def page(request: Request) -> None:
        with frame(request, "Storage") as fresh:
            shown = Holds(services, request, row_id(request.query_params.get("before")))
            await shown.refresh()
            fresh.every(_EVERY_S, shown.refresh)
