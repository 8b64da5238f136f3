"""`lefleet-server worker` and `lefleet-server jobs`: who does the work on episodes, and what waits for it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lefleet_server.commands.common import ConfigOption, JsonOption, fail, settings_of, show, with_database

# Commands import what they alone need: SQLAlchemy, FastAPI and NiceGUI take seconds on a small machine.
# ruff: noqa: PLC0415
if TYPE_CHECKING:
    from lefleet_server.db import Database

app = typer.Typer(no_args_is_help=True, help="Work that is done to episodes after their receipt.")


def worker(
    config: ConfigOption,
    concurrency: Annotated[int | None, typer.Option(min=1, max=64, help="Jobs at a time, not the setting's.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of its metrics, not the setting's; 0: none.")
    ] = None,
) -> None:
    """Do jobs until told to stop (SIGTERM); what is under way then is handed back."""
    from lefleet_server import worker as program
    from lefleet_server.app import build_services

    settings = settings_of(config)
    port = settings.worker_metrics_port if metrics_port is None else metrics_port

    async def work(db: "Database") -> None:
        blobs = build_services(settings).blobs
        await program.run(settings, db, blobs, concurrency or settings.worker_concurrency, port)

    try:
        with_database(settings, work)
    except program.MetricsPortError as error:
        fail(str(error))


@app.command("list")
def jobs_list(
    config: ConfigOption,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that were given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most of them.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List jobs that are not done, oldest first, with why the last attempt failed."""
    from lefleet_server.jobs import service

    async def work(db: "Database") -> list[dict[str, Any]]:
        names = ("id", "queue", "episode_id", "version", "state", "attempts", "worker", "reason")
        async with db.session() as session:
            page = await service.list_jobs(session, "dead" if dead else None, limit)
        return [{name: getattr(job, name) for name in names} for job in page.items]

    found = with_database(settings_of(config), work)
    lines = (f"{j['id']}  {j['queue']}  {j['episode_id']}  {j['state']}  {j['reason'] or ''}" for j in found)
    show(as_json, {"items": found}, "\n".join(lines))


@app.command("retry")
def jobs_retry(
    config: ConfigOption,
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    as_json: JsonOption = False,
) -> None:
    """Give dead jobs (those with ID, or all) all their attempts again."""
    from lefleet_server.jobs import service

    async def work(db: "Database") -> int:
        async with db.transaction() as session:
            return await service.retry(session, "console", ids or None)

    count = with_database(settings_of(config), work)
    show(as_json, {"retried": count}, f"{count} jobs are queued again")


@app.command("enqueue")
def jobs_enqueue(
    config: ConfigOption,
    all_older: Annotated[bool, typer.Option("--all-older-than-version", help="All that this version has not seen.")],
    as_json: JsonOption = False,
) -> None:
    """Queue the analysis and the previews of episodes that have none of this program's version."""
    from rich.console import Console
    from rich.progress import Progress

    from lefleet_server.analysis import service as analyses
    from lefleet_server.jobs import backlog
    from lefleet_server.previews import service as previews

    if not all_older:
        fail("--all-older-than-version: is the only choice; give it", status=2)

    async def work(db: "Database") -> int:
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=as_json or not console.is_terminal) as progress:
            task = progress.add_task("looking through the episodes", total=await backlog.size(db))
            works = [analyses.older(), previews.older()]
            return await backlog.enqueue(db, works, lambda count: progress.advance(task, count))

    count = with_database(settings_of(config), work)
    show(as_json, {"enqueued": count}, f"{count} jobs are new")
