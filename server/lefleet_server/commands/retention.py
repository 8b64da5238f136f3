"""`lefleet-server retention`: what the rules delete."""

from typing import TYPE_CHECKING, Annotated

import typer

from lefleet_server.commands.common import ConfigOption, JsonOption, fail, settings_of, show, with_database

# Commands import what they alone need: SQLAlchemy, FastAPI and NiceGUI take seconds on a small machine.
# ruff: noqa: PLC0415
if TYPE_CHECKING:
    from lefleet_server.db import Database
    from lefleet_server.retention.report import Report


def retention(
    config: ConfigOption,
    apply: Annotated[bool | None, typer.Option("--apply/--dry-run", help="Delete, or only say what would be.")] = None,
    rules: Annotated[list[str] | None, typer.Option("--rule", help="Only this rule, enabled or not.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the retention rules would delete (--dry-run), or delete it (--apply)."""
    from lefleet_server.retention import service
    from lefleet_server.retention.schemas import ReportOut

    if apply is None:
        fail("give --dry-run to see what would be deleted, or --apply to delete it", status=2)
    settings = settings_of(config)

    async def work(db: "Database") -> "Report":
        if apply:
            return await service.apply(db, settings, "console", rules or ())
        return await service.plan(db, rules or ())

    report = with_database(settings, work)
    show(as_json, ReportOut.of(report).model_dump(), _text(report))


def _text(report: "Report") -> str:
    verb = "deleted" if report.applied else "would be deleted"
    lines = [f"{name}: {c.episodes} episodes, {c.bytes} bytes {verb}" for name, c in report.rules.items()]
    lines += [f"under a legal hold: {report.held.episodes} episodes, {report.held.bytes} bytes stay"]
    lines += [f"{report.changed} episodes changed meanwhile and stay"] if report.changed else []
    return "\n".join([*lines, f"in all: {report.total.episodes} episodes, {report.total.bytes} bytes {verb}"])
