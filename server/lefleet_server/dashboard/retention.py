"""The rules by which episodes are deleted, on the storage page, for administrators."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.auth import Principal
from lefleet_server.dashboard import retention_form
from lefleet_server.dashboard.acting import Acting, actor
from lefleet_server.dashboard.dialogs import FormDialog, Question, Values, button
from lefleet_server.dashboard.lists import Column, Lines, cell, line, main_cell, section
from lefleet_server.dashboard.parts import Chip, Text, Time, box, empty, icon
from lefleet_server.dashboard.retention_plan import Planned, PlanView, look
from lefleet_server.dashboard.retention_words import count, last, sentence, state
from lefleet_server.db import utc_now
from lefleet_server.retention import nightly, service
from lefleet_server.retention.models import RetentionRule, RetentionRun
from lefleet_server.retention.rules import Rule
from lefleet_server.retention.service import rule_of
from lefleet_server.services import Services

_COLUMNS = (
    Column("Rule", "minmax(120px, 0.8fr)"),
    Column("What it does", "minmax(180px, 2fr)"),
    Column("State", "104px"),
    Column("", "392px", "is-right"),
)


class Rules:
    """One administrator's list; sends only what changed."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._acting = Acting(services, request)
        self._question = Question()
        self._edited: RetentionRule | None = None
        self._shown_rules: list[tuple[str, datetime]] | None = None
        self._shown_state: object = None
        self._looking = False
        text = "It deletes nothing until you enable it: look first at what would go."
        self._new = FormDialog("New rule", text, self._add, "Add the rule")
        text = "A changed rule is off until you enable it: look first at what would go."
        self._change = FormDialog("Change the rule", text, self._save, "Save")
        with section("Retention", "Rules by which episodes are deleted. What is under a legal hold stays."):
            with box("lf-section-acts lf-panel-acts"):
                button("What would go now", self._plan)
                with button("", self._ask_new, "is-primary"):
                    icon("add")
                    Text("New rule", tag="span")
            self._lines = Lines(_COLUMNS, "Retention rules")
            self._state = box("lf-rules-state")
            self._plan_view = PlanView()

    async def refresh(self) -> None:
        async with self._services.db.session() as session:
            rows = await service.list_rules(session)
            run = await nightly.last(session)
        self._show_rules(rows)
        self._show_state(run, sum(row.enabled for row in rows))

    def _show_rules(self, rows: Sequence[RetentionRule]) -> None:
        now = [(row.name, row.changed_at) for row in rows]
        if now == self._shown_rules:
            return
        self._shown_rules = now
        if not rows:
            with self._lines.only():
                empty("storage", "No rules", "Nothing is deleted unless an administrator deletes it by hand.")
            return
        with self._lines.rebuild():
            for row in rows:
                self._build_line(row)

    def _build_line(self, row: RetentionRule) -> None:
        with line(data_rule=row.name):
            with main_cell(row.name), box("lf-cell-sub"):
                Text(f"{row.changed_by.removeprefix('user:')}, ", tag="span")
                Time(row.changed_at, "ago")
            with cell("What it does", "lf-reason"):
                Text(sentence(rule_of(row)))
            with cell("State"):
                Chip("Enabled" if row.enabled else "Off", "warn" if row.enabled else "off")
            with cell("", "is-right is-act lf-rule-acts"):
                self._act("What would go", row, self._plan_one)
                self._act("Edit", row, self._ask_change)
                if row.enabled:
                    self._act("Disable", row, self._disable)
                else:
                    self._act("Enable", row, self._ask_enable)
                self._act("Remove", row, self._ask_remove)

    def _act(self, word: str, row: RetentionRule, press: Callable[[RetentionRule], object]) -> None:
        button(word, partial(press, row), aria_label=f"{word}: {row.name}")

    def _show_state(self, run: RetentionRun | None, enabled: int) -> None:
        hour, now = self._services.settings.retention_hour_utc, utc_now()
        due = None if hour is None else nightly.next_at(hour, now, run.day if run else None)
        said = state(run, due, now, enabled)
        if (said, due, run and run.ended_at) == self._shown_state:
            return
        self._shown_state = said, due, run and run.ended_at
        self._state.clear()
        with self._state:
            Text(f"{said} ", tag="span")
            if due is not None:
                Time(due)
                Text(". ", tag="span")
            if run is not None and run.ended_at is not None:
                Text(last(run), tag="span", classes="is-bad" if run.refused else "")
                Time(run.ended_at, "ago")
                Text(".", tag="span")

    def _ask_new(self) -> None:
        with self._new.form.fields():
            retention_form.build_fields(None)
        self._new.open()

    def _ask_change(self, row: RetentionRule) -> None:
        self._edited = row
        with self._change.form.fields():
            Text(row.name, tag="b")
            retention_form.build_fields(rule_of(row))
        self._change.open()

    async def _add(self, values: Values) -> None:
        rule = retention_form.parse(values)
        who = await self._acting.who(Role.ADMIN)
        if who is None:
            return
        async with self._services.db.transaction() as session:
            await retention_form.require_robots(session, rule)
            await service.add_rule(session, rule, actor(who))
        self._new.close()
        await self._changed(rule)

    async def _save(self, values: Values) -> None:
        row = self._edited
        if row is None or (who := await self._acting.who(Role.ADMIN)) is None:
            return
        rule = retention_form.parse(values, row.name)
        async with self._services.db.transaction() as session:
            await retention_form.require_robots(session, rule)
            await service.change_rule(session, rule, False, row.changed_at, actor(who))
        self._change.close()
        await self._changed(rule)

    async def _changed(self, rule: Rule) -> None:
        """Says at once what it would delete: it is disabled now."""
        await self.refresh()
        await self._look([rule.name], f"{rule.name} would delete now")

    async def _plan(self) -> None:
        await self._look([], "The enabled rules would delete now")

    async def _plan_one(self, row: RetentionRule) -> None:
        await self._look([row.name], f"{row.name} would delete now")

    async def _look(self, names: list[str], title: str) -> Planned | None:
        """Shows what would go, and returns it; None when nobody may know, or the last look is not done."""
        if self._looking:
            return None
        found: list[Planned] = []
        self._looking = True
        try:
            await self._acting.look(Role.ADMIN, lambda: look(self._services.db, names), found.append)
        finally:
            self._looking = False
        if not found:
            return None
        self._plan_view.show(title, found[0])
        return found[0]

    async def _ask_enable(self, row: RetentionRule) -> None:
        found = await self._look([row.name], f"{row.name} would delete now")
        if found is None:
            return
        text = f"It would delete {count(found.report.total)} now. Each run deletes what is past its limits then."
        if await self._question.ask(f"Enable {row.name}?", text, "Enable"):
            await self._switch(row, True)

    async def _disable(self, row: RetentionRule) -> None:
        await self._switch(row, False)

    async def _switch(self, row: RetentionRule, enabled: bool) -> None:
        async def work(session: AsyncSession, who: Principal) -> RetentionRule:
            return await service.change_rule(session, rule_of(row), enabled, row.changed_at, actor(who))

        await self._acting.change(Role.ADMIN, work, lambda _: self.refresh())

    async def _ask_remove(self, row: RetentionRule) -> None:
        text = "No episode goes or comes back by that. The audit log keeps what the rule said."
        if await self._question.ask(f"Remove {row.name}?", text, "Remove"):
            await self._acting.change(
                Role.ADMIN,
                lambda session, who: service.remove_rule(session, row.name, actor(who)),
                lambda _: self.refresh(),
            )
