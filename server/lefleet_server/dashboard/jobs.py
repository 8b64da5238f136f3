"""Work on episodes that is not done: what waits, what runs, what was given up and why, and another try."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from nicegui import ui
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.audit_words import readable
from lefleet_server.dashboard.dialogs import Question, button
from lefleet_server.dashboard.filters import row_id
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.lists import Column, Lines, cell, line, main_cell, page_link, stat
from lefleet_server.dashboard.parts import Chip, Text, Time, Tone, box, empty, link
from lefleet_server.dashboard.sections import page_for
from lefleet_server.db import utc_now
from lefleet_server.jobs import queue, service
from lefleet_server.jobs.models import Job
from lefleet_server.jobs.queue import Depth
from lefleet_server.services import Services
from lefleet_server.units import DASH, duration, number

PATH = "/jobs"
_ROWS = 50
_EVERY_S = 2.0
_IDLE_S = 60.0
"""A job that waits so long while none runs: no worker is there."""
_STATES = {"": "All", "running": "Running", "queued": "Queued", "dead": "Dead"}
_TONES: dict[str, Tone] = {"queued": "off", "running": "live", "dead": "bad"}
_DENIED = "Another try needs the role operator"
_COLUMNS = (
    Column("Work", "minmax(120px, 1fr)"),
    Column("Episode", "minmax(110px, 0.8fr)"),
    Column("State", "104px"),
    Column("Attempts", "84px"),
    Column("Queued", "minmax(96px, 0.7fr)"),
    Column("Why it failed", "minmax(180px, 2.4fr)"),
    Column("", "88px", "is-right"),
)


@dataclass(frozen=True, slots=True)
class JobsView:
    """Which jobs a page shows; in its URL."""

    state: str = ""
    after: int | None = None

    def address(self) -> str:
        parts = [f"state={self.state}"] * bool(self.state) + [f"after={self.after}"] * bool(self.after)
        return f"{PATH}?{'&'.join(parts)}" if parts else PATH


class Jobs:
    """One viewer's page; lines are built anew only when something changed."""

    def __init__(self, services: Services, request: Request, view: JobsView) -> None:
        self._services = services
        self._view = view
        self._acting = Acting(services, request)
        self._may = Role(user_on(request).role).covers(Role.OPERATOR)
        self._question = Question()
        self._shown: tuple[object, ...] | None = None
        with head("Jobs", "What workers do to episodes after their receipt"):
            self._retry_all = button("Retry all dead", self._ask_retry_all)
            self._deny(self._retry_all)
        with box("lf-card lf-stats"):
            self._queued, _, self._queued_hint = stat("Waiting")
            self._running, _, self._running_hint = stat("Running")
            self._dead, _, self._dead_hint = stat("Dead")
            self._oldest, _, self._oldest_hint = stat("Oldest")
        self._idle = Text(
            "Jobs wait and none runs: no worker is there. Start one: lefleet-server worker --config FILE", "lf-note"
        )
        with box("lf-filters"):
            self._build_states()
        self._lines = Lines(_COLUMNS, "Jobs")
        self._pager = box("lf-pager")

    def _build_states(self) -> None:
        with box("lf-segments", role="group", aria_label="State"):
            for state, word in _STATES.items():
                pressed = "true" if state == self._view.state else "false"
                with link(JobsView(state).address(), "lf-segment", aria_pressed=pressed):
                    Text(word, tag="span")

    def _deny(self, made: ui.element) -> None:
        if not self._may:
            made.props.update({"disabled": True, "title": _DENIED})

    async def refresh(self) -> None:
        async with self._services.db.session() as session:
            found = await service.list_jobs(session, self._view.state or None, _ROWS, self._view.after)
            depths = await queue.depths(session)
        self._show_depths(depths)
        now = [(job.id, job.state, job.attempts, job.reason) for job in found.items], found.next_cursor
        if now == self._shown:
            return
        self._shown = now
        self._show_lines(found.items)
        self._pager.clear()
        with self._pager:
            self._build_pager(found.next_cursor)

    def _show_depths(self, depths: Sequence[Depth]) -> None:
        running, dead = sum(d.running for d in depths), sum(d.dead for d in depths)
        queued = sum(d.waiting for d in depths) - running
        oldest = max((d.oldest_age_s for d in depths), default=0.0)
        self._queued.show(number(queued, 0))
        self._queued_hint.show(_by_kind((d.queue, d.waiting - d.running) for d in depths) or "nothing waits")
        self._running.show(number(running, 0))
        self._running_hint.show("now, on all workers")
        self._dead.show(number(dead, 0))
        self._dead_hint.show(_by_kind((d.queue, d.dead) for d in depths) or "nothing was given up")
        self._oldest.show(duration(oldest) if queued + running else DASH)
        self._oldest_hint.show("since it was queued")
        self._idle.set_visibility(queued > 0 and running == 0 and oldest > _IDLE_S)
        self._retry_all.set_visibility(dead > 0)

    def _show_lines(self, found: Sequence[Job]) -> None:
        if not found:
            with self._lines.only():
                self._build_empty()
            return
        with self._lines.rebuild():
            for job in found:
                self._build_line(job)

    def _build_empty(self) -> None:
        if self._view == JobsView():
            empty("jobs", "Nothing to do", "Every episode has been looked at. New ones bring their jobs with them.")
            return
        title = f"No {self._view.state} job" if self._view.after is None else "No more jobs"
        with empty("jobs", title, "The other states may have some."), link(PATH, "lf-button"):
            Text("Show all jobs", tag="span")

    def _build_line(self, job: Job) -> None:
        with line(data_job=str(job.id)):
            main_cell(readable(job.queue), f"number {job.id}, rules {job.version}")
            with cell("Episode"), link(f"/episodes/{job.episode_id}", "lf-link-quiet"):
                Text(f"{job.episode_id[:10]}…", "lf-mono", tag="span")
            with cell("State"):
                Chip(job.state.capitalize(), _TONES.get(job.state, ""))
            with cell("Attempts", "lf-num"):
                Text(str(job.attempts))
            with cell("Queued", "lf-muted"):
                Time(job.created_at, "ago")
            with cell("Why it failed", "lf-reason"):
                Text(job.reason or _says(job))
            with cell("", "is-right is-act"):
                if job.state == "dead":
                    self._deny(button("Retry", partial(self._ask_retry, job)))

    def _build_pager(self, next_cursor: int | None) -> None:
        if next_cursor is None and self._view.after is None:
            return
        Text("Oldest first", tag="span")
        with box():
            if self._view.after is not None:
                page_link("Oldest", "previous", JobsView(self._view.state).address())
            if next_cursor is not None:
                page_link("More", "next", JobsView(self._view.state, next_cursor).address())

    async def _ask_retry(self, job: Job) -> None:
        text = "It gets all its attempts again. Mend first what stands in its reason, or it ends the same way."
        if await self._question.ask(f"Retry job {job.id}?", text, "Retry"):
            await self._retry([job.id])

    async def _ask_retry_all(self) -> None:
        text = "Each gets all its attempts again. Mend first what stands in their reasons, or they end the same way."
        if await self._question.ask("Retry all dead jobs?", text, "Retry all"):
            await self._retry(None)

    async def _retry(self, ids: list[int] | None) -> None:
        await self._acting.change(
            Role.OPERATOR, lambda session, who: service.retry(session, actor(who), ids), self._retried
        )

    async def _retried(self, count: int) -> None:
        self._acting.say(f"{count} queued again." if count else "It was not dead any more.", good=count > 0)
        await self.refresh()


def _by_kind(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {readable(kind).lower()}" for kind, count in counts if count)


def _says(job: Job) -> str:
    if job.state == "running":
        return f"on {job.worker}" if job.worker else ""
    wait_s = (job.run_after - utc_now()).total_seconds()
    return f"next attempt in {duration(wait_s)}" if wait_s > 0 else ""


def register(services: Services) -> None:
    @page_for(PATH, "Jobs", Role.VIEWER)
    async def page(request: Request) -> None:
        state, after = request.query_params.get("state", ""), row_id(request.query_params.get("after"))
        view = JobsView(state if state in _STATES else "", after)
        with frame(request, "Jobs") as fresh:
            jobs = Jobs(services, request, view)
            await jobs.refresh()
            fresh.every(_EVERY_S, jobs.refresh)
