"""The table of episodes: filtered, newest first, one page at a time."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import quote

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.analysis import service as analyses
from lefleet_server.analysis.models import EpisodeAnalysis
from lefleet_server.dashboard import queries
from lefleet_server.dashboard.dialogs import Question
from lefleet_server.dashboard.filter_bar import FilterBar
from lefleet_server.dashboard.filters import Cursor, Filters
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.fresh import Fresh
from lefleet_server.dashboard.lists import page_link
from lefleet_server.dashboard.parts import Chip, Text, Time, box, empty, icon, link, outcome_chip
from lefleet_server.dashboard.quality_panel import build_badges
from lefleet_server.dashboard.queries import EpisodePage, EpisodeRow, Size
from lefleet_server.dashboard.sections import page_for
from lefleet_server.dashboard.selection import SCRIPT, Labeller, SelectionBar
from lefleet_server.dashboard.sets import Collector
from lefleet_server.db import utc_now
from lefleet_server.previews import service as previews
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.previews.schemas import address
from lefleet_server.problems import Problem
from lefleet_server.services import Services
from lefleet_server.units import duration, number, repo_name, short_commit, thousands

PATH = "/episodes"
_PAGE_ROWS = 20
_KNOWN = 500
_LOOK_FOR_NEW_S = 5.0
_COLUMNS = (
    ("Start and end", ""),
    ("Robot and task", ""),
    ("Policy", ""),
    ("Outcome", ""),
    ("Length", "is-right"),
    ("Rate", "is-right is-wide"),
    ("Started", "is-right"),
    ("", "is-wide"),
)


class Episodes:
    """One viewer's table."""

    def __init__(
        self, fresh: Fresh, services: Services, request: Request, filters: Filters, choices: queries.Choices
    ) -> None:
        self._fresh = fresh
        self._services = services
        self._filters = filters
        self._top: str | None = None
        self._page = EpisodePage((), has_newer=False, has_older=False)
        self._known: list[str] = []
        """What was on this page since it was read anew: what left it, being judged, comes back with Undo."""
        self._last: Cursor | None = None
        """The place of the oldest of these."""
        self._reading = asyncio.Lock()
        with head("Episodes", "Everything the fleet has recorded, newest first"):
            self._compare = link(filters.address("/compare"), "lf-button")
            with self._compare:
                Text("Compare", tag="span")
            with link("/sets", "lf-button"):
                Text("Sets", tag="span")
            self._new = box("lf-button is-primary", tag="button", type="button").on("click", self._show_newest)
            with self._new:
                Text("New episodes", tag="span")
        FilterBar(services.db, filters, choices, self._filter)
        self._labeller = Labeller(services, request, partial(fresh.now, self.refresh_in_place))
        self._question = Question()
        self._collector = Collector(services, request, lambda: self._filters, self._question)
        self._selection = SelectionBar(
            self._labeller, self._go_to_unlabelled, self._label_all, partial(self._build_collector, choices)
        )
        self._table = box("lf-card lf-table")
        self._pager = box("lf-pager")

    async def refresh(self) -> None:
        """The page anew, with what arrived."""
        await self._read(anew=True)

    async def refresh_in_place(self) -> None:
        """The same episodes as they are now: nothing comes in above the last one."""
        await self._read(anew=False)

    async def _read(self, *, anew: bool) -> None:
        # One after another: what was read first must not be shown last.
        async with self._reading:
            if anew:
                self._known, self._last = [], None
            await self._show()
            if anew:
                self._new.set_visibility(False)

    async def _show(self) -> None:
        async with self._services.db.reading() as session:
            if self._last is None:
                page = await queries.episode_page(session, self._filters, _PAGE_ROWS)
            else:
                page = await queries.page_in_place(
                    session, self._filters, self._page, self._known, self._last, _PAGE_ROWS
                )
            found = await analyses.of_episodes(session, [row.id for row in page.rows])
            made = await previews.of_episodes(session, [row.id for row in page.rows])
            size = await queries.size(session, self._filters)
        self._top = page.rows[0].id if page.rows and not page.has_newer else None
        self._keep(page)
        self._table.clear()
        with self._table:
            self._build_rows(page, found, made)
        self._pager.clear()
        with self._pager:
            self._build_pager(page, size)
        self._selection.show()

    def _keep(self, page: EpisodePage) -> None:
        self._page = page
        if page.rows:
            ids = [row.id for row in page.rows]
            self._known = [*(id_ for id_ in self._known if id_ not in ids), *ids][-_KNOWN:]
            self._last = min(self._last or page.rows[-1].cursor, page.rows[-1].cursor)

    async def look_for_new(self) -> None:
        """Offers newer episodes instead of moving the rows under the reader's finger."""
        if self._filters != self._filters.first_page():
            return
        async with self._services.db.session() as session:
            newest = await queries.newest(session, self._filters)
        self._new.set_visibility(newest is not None and newest != self._top)

    async def _filter(self, filters: Filters) -> None:
        self._filters = filters
        ui.navigate.history.replace(filters.address(PATH))
        self._compare.props["href"] = filters.first_page().address("/compare")
        await self._fresh.now(self.refresh)

    def _build_collector(self, choices: queries.Choices, line: ui.element) -> None:
        if choices.sets:
            self._collector.build(choices.sets, self._filters.in_set)
            line.on("collect", self._collect, ["detail"])

    async def _collect(self, event: GenericEventArguments) -> None:
        if await self._collector.collect(event):
            await self._fresh.now(self.refresh_in_place)

    async def _go_to_unlabelled(self) -> None:
        async with self._services.db.session() as session:
            found = await queries.next_unlabelled(session, self._filters)
        if found is None:
            ui.notify("Every episode of these filters has a label.", type="positive")
        else:
            ui.navigate.to(self._filters.first_page().address(f"{PATH}/{found}"))

    async def _label_all(self, outcome: str | None) -> None:
        try:
            await self._labeller.label_all(self._filters.which(utc_now()), outcome, self._question)
        except Problem as problem:
            ui.notify(problem.detail, type="negative")

    async def _show_newest(self) -> None:
        await self._filter(self._filters.first_page())

    def _build_rows(
        self,
        page: EpisodePage,
        found: Mapping[str, EpisodeAnalysis],
        made: Mapping[str, Sequence[EpisodePreview]],
    ) -> None:
        if not page.rows:
            self._build_empty()
            return
        with box("lf-row is-header"):
            for name, classes in _COLUMNS:
                Text(name, classes)
        for row in page.rows:
            build_row(row, self._filters, self._labeller.allowed, found.get(row.id), made.get(row.id, ()))

    def _build_empty(self) -> None:
        if self._filters.is_set:
            text = "Nothing matches these filters. Widen the time, or take a filter away."
            with empty("episodes", "No such episode", text), link(PATH, "lf-button"):
                Text("Show all episodes", tag="span")
        else:
            text = "An episode appears here a few seconds after a robot has finished and uploaded it."
            with empty("episodes", "No episodes yet", text), link("/", "lf-button"):
                Text("Look at the robots", tag="span")

    def _build_pager(self, page: EpisodePage, size: Size) -> None:
        if not page.has_newer and not page.has_older:
            return
        Text(f"{len(page.rows)} of {how_many(size)} on this page", tag="span")
        newer = older = None
        if page.rows and page.has_newer:
            newer = self._filters.changed(after=page.rows[0].cursor).address(PATH)
        if page.rows and page.has_older:
            older = self._filters.changed(before=page.rows[-1].cursor).address(PATH)
        with box():
            page_link("Newer", "previous", newer)
            page_link("Older", "next", older)


def how_many(size: Size) -> str:
    """An estimate is said as such, and to two digits only."""
    if size.exact:
        return f"{size.episodes} episode{'' if size.episodes == 1 else 's'}"
    return f"about {thousands(round(size.episodes, 1 - int(math.log10(size.episodes))))} episodes"


def build_row(
    row: EpisodeRow,
    filters: Filters,
    may_choose: bool,
    found: EpisodeAnalysis | None,
    made: Sequence[EpisodePreview] = (),
) -> None:
    """One episode as a link to its page, with what a worker found in it."""
    target = filters.first_page().address(f"{PATH}/{row.id}")
    with link(target, "lf-row", data_episode=row.id):
        if may_choose:
            box("lf-check", tag="span", role="checkbox", aria_checked="false", aria_label="Choose this episode")
        _build_thumbnails(row, made)
        with box("lf-cell lf-cell-robot"):
            Text(row.robot_id, "lf-cell-main lf-cut")
            Text(row.task or "No task", "lf-cell-sub lf-cut")
        with box("lf-cell lf-cell-policy"):
            Text(repo_name(row.policy_repo) if row.policy_repo else "No policy", "lf-cell-main lf-cut")
            Text(short_commit(row.policy_commit), "lf-cell-sub lf-mono")
        with box("lf-cell lf-cell-outcome lf-row-chips"):
            outcome_chip(row.result)
            if row.interrupted:
                Chip("Interrupted", "warn", "is-plain")
            if row.label_outcome:
                Text("labelled", "lf-cell-sub")
            build_badges(found)
        Text(duration(row.duration_s), "lf-num is-right lf-cell-long")
        with box("lf-num is-right is-wide lf-cell-long"):
            Text(f"{number(row.hz_held)} Hz")
            if row.frames_dropped:
                Text(f"{row.frames_dropped} dropped", "lf-cell-sub")
        with box("lf-num is-right lf-muted lf-cell-when"):
            Time(row.started_at)
        icon("next").classes("lf-go is-wide")


def _build_thumbnails(row: EpisodeRow, made: Sequence[EpisodePreview]) -> None:
    with box("lf-thumbs"):
        if not row.frames or not row.cameras:
            return
        camera = row.cameras[0]
        small = {each.kind: address(each) for each in made if each.camera == camera}
        for kind, tick in (("first", 0), ("last", row.frames - 1)):
            source = small.get(kind) or f"/api/v1/episodes/{row.id}/frames/{quote(camera)}/{tick}.jpg"
            box(tag="img", src=source, loading="lazy", decoding="async", alt="")


def register(services: Services) -> None:
    @page_for(PATH, "Episodes", Role.VIEWER)
    async def page(request: Request) -> None:
        filters = Filters.parse(request.query_params)
        async with services.db.session() as session:
            choices = await queries.choices(session, filters.policy)
        with frame(request, "Episodes", SCRIPT) as fresh:
            episodes = Episodes(fresh, services, request, filters, choices)
            await episodes.refresh()
            fresh.every(_LOOK_FOR_NEW_S, episodes.look_for_new)
