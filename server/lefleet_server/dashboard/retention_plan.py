"""What retention rules would delete now, shown before anything goes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from nicegui import ui
from sqlalchemy import or_, select

from lefleet_server.dashboard.dialogs import button
from lefleet_server.dashboard.lists import Column, Lines, cell, line, main_cell
from lefleet_server.dashboard.parts import Text, Time, box, outcome_chip
from lefleet_server.dashboard.retention_words import count
from lefleet_server.db import Database
from lefleet_server.deletion.models import LegalHold
from lefleet_server.episodes.models import Episode
from lefleet_server.retention import service
from lefleet_server.retention.report import Report
from lefleet_server.units import size, thousands

_NAMED = 10
_GOING = (
    Column("The oldest of them", "minmax(150px, 1.4fr)"),
    Column("Outcome", "116px"),
    Column("Size", "96px", "is-right"),
    Column("Arrived", "minmax(110px, 1fr)"),
    Column("Rule", "minmax(110px, 1fr)"),
)
_HELD = (
    Column("Held, so it stays", "minmax(150px, 1.4fr)"),
    Column("Outcome", "116px"),
    Column("Size", "96px", "is-right"),
    Column("Arrived", "minmax(110px, 1fr)"),
    Column("Why it is held", "minmax(150px, 2fr)"),
)


@dataclass(frozen=True, slots=True)
class Named:
    """One episode of a report."""

    id: str
    robot_id: str
    result: str
    bytes: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Planned:
    report: Report
    episodes: Mapping[str, Named]
    """Of those that are shown; one that went meanwhile is missing."""
    holds: Mapping[str, LegalHold]
    """By episode or robot."""


async def look(db: Database, rules: Sequence[str]) -> Planned:
    """What the enabled rules, or these, would delete. Raises NotFound."""
    report = await service.plan(db, rules)
    ids = [episode_id for episode_id, _ in report.examples[:_NAMED] + report.held_examples[:_NAMED]]
    columns = [getattr(Episode, name) for name in Named.__dataclass_fields__]
    async with db.session() as session:
        found = {row.id: Named(*row) for row in await session.execute(select(*columns).where(Episode.id.in_(ids)))}
        robots = {each.robot_id for each in found.values()}
        of_them = or_(LegalHold.episode_id.in_(ids), LegalHold.robot_id.in_(robots))
        held = (await session.scalars(select(LegalHold).where(of_them))).all()
    return Planned(report, found, {str(hold.episode_id or hold.robot_id): hold for hold in held})


class PlanView:
    """Invisible until `show`."""

    def __init__(self) -> None:
        self._card = box("lf-card lf-plan", tag="section", aria_label="What would go")
        self.hide()

    def hide(self) -> None:
        self._card.set_visibility(False)

    def show(self, title: str, found: Planned) -> None:
        report = found.report
        self._card.clear()
        self._card.set_visibility(True)
        with self._card:
            with box("lf-plan-head"):
                with box():
                    Text(title, tag="h2")
                    Text(_says(report), "lf-panel-text")
                button("Close", self.hide)
            if report.examples:
                self._build_going(found)
            if report.held_examples:
                self._build_held(found)
            # It stands below the rules, and on a phone below the screen.
            there = f"getHtmlElement({self._card.id})"
            ui.run_javascript(f'{there}.scrollIntoView({{block: "nearest", behavior: "smooth"}})')

    def _build_going(self, found: Planned) -> None:
        with Lines(_GOING, "What would go").rebuild():
            for episode_id, rule in found.report.examples[:_NAMED]:
                with _line(found, episode_id), cell("Rule", "lf-muted"):
                    Text(rule)
            _build_more(found.report.total.episodes)

    def _build_held(self, found: Planned) -> None:
        with Lines(_HELD, "Held, so it stays").rebuild():
            for episode_id, _ in found.report.held_examples[:_NAMED]:
                with _line(found, episode_id), cell("Why it is held", "lf-reason"):
                    Text(_why(found, episode_id))
            _build_more(found.report.held.episodes)


def _says(report: Report) -> str:
    if not report.total.episodes:
        says = ["Nothing would go."]
    else:
        says = [f"{count(report.total)} would go. Nothing was deleted yet."]
    if len(report.rules) > 1:
        says += [f"By rule: {', '.join(f'{name} {count(of)}' for name, of in report.rules.items())}."]
    if report.held.episodes:
        says += [f"{count(report.held)} would go too, were it not for a legal hold."]
    return " ".join(says)


@contextmanager
def _line(found: Planned, episode_id: str) -> Iterator[None]:
    """One episode's line; its last cell is built inside."""
    episode = found.episodes.get(episode_id)
    with line(f"/episodes/{episode_id}", data_planned=episode_id):
        main_cell(episode.robot_id if episode else "Gone meanwhile", f"{episode_id[:10]}…")
        with cell("Outcome", "lf-line-chips"):
            if episode:
                outcome_chip(episode.result)
        with cell("Size", "lf-num is-right"):
            Text(size(episode.bytes if episode else None))
        with cell("Arrived", "lf-muted"):
            if episode:
                Time(episode.received_at, "ago")
        yield


def _why(found: Planned, episode_id: str) -> str:
    episode = found.episodes.get(episode_id)
    hold = found.holds.get(episode_id) or (found.holds.get(episode.robot_id) if episode else None)
    if hold is None:
        return "Released meanwhile"
    whose = "" if hold.episode_id else f" (all of {hold.robot_id})"
    return f"{hold.reason}{whose}, {hold.placed_by.removeprefix('user:')}"


def _build_more(whole: int) -> None:
    if whole > _NAMED:
        Text(f"and {thousands(whole - _NAMED)} more", "lf-lines-more")
