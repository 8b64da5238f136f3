"""The server's command line. Exit status: 0 done, 1 cannot be done now, 2 wrong use or wrong settings."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError

from lefleet_server import __version__, logs
from lefleet_server.accounts.roles import Role
from lefleet_server.config import CONFIG_VARIABLE, ConfigError, Settings, load
from lefleet_server.fields import RobotId, Site, Username

# Commands import what they alone need: SQLAlchemy, FastAPI and NiceGUI take seconds on a small machine.
# ruff: noqa: PLC0415
if TYPE_CHECKING:
    from lefleet_server.db import Database

cli = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
users = typer.Typer(no_args_is_help=True, help="People who may log in.")
jobs = typer.Typer(no_args_is_help=True, help="Work that is done to episodes after their receipt.")
cli.add_typer(users, name="users")
cli.add_typer(jobs, name="jobs")

ConfigOption = Annotated[
    Path, typer.Option("--config", envvar=CONFIG_VARIABLE, help="The server's settings, YAML.", metavar="FILE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]
_CONSOLE = "console"


@cli.command()
def serve(config: ConfigOption) -> None:
    """Answer robots and people until told to stop."""
    import uvicorn

    from lefleet_server.app import create_app

    settings = _settings(config)
    _run(settings, _nothing)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=5,
    )


@cli.command()
def migrate(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Bring the database's schema up to date; does nothing when it is."""
    from lefleet_server import schema

    settings = _settings(config)

    async def work(db: "Database") -> tuple[str | None, str]:
        await schema.ensure_database(settings)
        return await schema.migrate(db.engine)

    before, after = _run(settings, work, migrating=True)
    changed = before != after
    _print(
        as_json,
        {"changed": changed, "before": before, "after": after},
        f"schema {after}" + ("" if changed else " (unchanged)"),
    )


@cli.command()
def postgres(
    config: ConfigOption,
    erase: Annotated[bool, typer.Option("--erase", help="Delete the stopped database and all it holds.")] = False,
) -> None:
    """Run the embedded PostgreSQL in the foreground (stop it with SIGINT)."""
    from lefleet_server import postgres as embedded

    settings = _settings(config)
    if settings.postgres_dir is None:
        _fail("postgres_dir: is not set, so there is no embedded PostgreSQL to run", status=2)
    try:
        if erase:
            for removed in embedded.erase(settings.postgres_dir):
                typer.echo(f"removed {removed}")
            return
        embedded.run(settings.postgres_dir, settings.postgres_user)
    except (embedded.PostgresError, OSError) as error:
        _fail(str(error))


@cli.command("enrol-code")
def enrol_code(
    robot: str,
    config: ConfigOption,
    site: Annotated[str, typer.Option(help="Where the robot stands; a label in lists and metrics.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Print a one-time code with which ROBOT gets its credential."""
    from lefleet_server.robots import service

    _check(RobotId, "ROBOT", robot)
    _check(Site, "--site", site)
    settings = _settings(config)

    async def work(db: "Database") -> str:
        async with db.transaction() as session:
            return await service.create_enrolment_code(session, robot, site, settings.enrol_code_ttl_s, _CONSOLE)

    code = _run(settings, work)
    _print(as_json, {"robot_id": robot, "code": code, "ttl_s": settings.enrol_code_ttl_s}, code)


@cli.command()
def robots(config: ConfigOption, as_json: JsonOption = False) -> None:
    """List the robots: how each is, and what it said last."""
    from lefleet_server.robots import service
    from lefleet_server.robots.schemas import RobotList, RobotOut

    settings = _settings(config)

    async def work(db: "Database") -> RobotList:
        async with db.session() as session:
            views = await service.list_robots(session, settings.offline_after_s)
        return RobotList(items=[RobotOut.of(view) for view in views])

    found = _run(settings, work)
    lines = (f"{robot.id}  {robot.state}  {robot.last_seen_at or 'never seen'}" for robot in found.items)
    _print(as_json, found.model_dump(mode="json"), "\n".join(lines))


@cli.command()
def revoke(robot: str, config: ConfigOption, as_json: JsonOption = False) -> None:
    """Take ROBOT's credential away at once; its episodes stay, and a new enrolment code brings it back."""
    from lefleet_server.robots import service

    _check(RobotId, "ROBOT", robot)

    async def work(db: "Database") -> bool:
        async with db.transaction() as session:
            return await service.revoke(session, robot, _CONSOLE)

    changed = _run(_settings(config), work)
    _print(as_json, {"robot_id": robot, "changed": changed}, f"{robot} is retired")


@cli.command("login-link")
def login_link(config: ConfigOption, user: str = "admin", as_json: JsonOption = False) -> None:
    """Print an address that logs USER in, once."""
    from lefleet_server.accounts import service

    settings = _settings(config)

    async def work(db: "Database") -> str:
        async with db.transaction() as session:
            return await service.create_login_code(session, user, settings.login_code_ttl_s, _CONSOLE)

    url = f"{settings.address}/login?code={_run(settings, work)}"
    _print(as_json, {"user": user, "url": url, "ttl_s": settings.login_code_ttl_s}, url)


@users.command("add")
def users_add(
    username: str,
    config: ConfigOption,
    role: Annotated[Role, typer.Option(help="What this person may do.")] = Role.VIEWER,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password, `-` for standard input; none: log-in links only.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a person, or change the role and password of one; does nothing when they are so already."""
    from lefleet_server.accounts import service

    _check(Username, "USERNAME", username)
    password = _password(password_file)

    async def work(db: "Database") -> bool:
        async with db.transaction() as session:
            return await service.put_user(session, username, role, password, _CONSOLE)

    changed = _run(_settings(config), work)
    _print(as_json, {"username": username, "role": role.value, "changed": changed}, f"{username} is {role.value}")


@cli.command()
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

    settings = _settings(config)
    port = settings.worker_metrics_port if metrics_port is None else metrics_port

    async def work(db: "Database") -> None:
        blobs = build_services(settings).blobs
        await program.run(settings, db, blobs, concurrency or settings.worker_concurrency, port)

    try:
        _run(settings, work)
    except program.MetricsPortError as error:
        _fail(str(error))


@jobs.command("list")
def jobs_list(
    config: ConfigOption,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that were given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most of them.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List jobs that are not done, oldest first, with why the last attempt failed."""
    from lefleet_server.jobs import queue

    async def work(db: "Database") -> list[dict[str, Any]]:
        names = ("id", "queue", "episode_id", "version", "state", "attempts", "worker", "reason")
        async with db.session() as session:
            found = await queue.list_jobs(session, "dead" if dead else None, limit)
        return [{name: getattr(job, name) for name in names} for job in found]

    found = _run(_settings(config), work)
    lines = (f"{j['id']}  {j['queue']}  {j['episode_id']}  {j['state']}  {j['reason'] or ''}" for j in found)
    _print(as_json, {"items": found}, "\n".join(lines))


@jobs.command("retry")
def jobs_retry(
    config: ConfigOption,
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    as_json: JsonOption = False,
) -> None:
    """Give dead jobs (those with ID, or all) all their attempts again."""
    from lefleet_server.jobs import queue

    async def work(db: "Database") -> int:
        async with db.transaction() as session:
            return await queue.retry_dead(session, ids or None)

    count = _run(_settings(config), work)
    _print(as_json, {"retried": count}, f"{count} jobs are queued again")


@jobs.command("enqueue")
def jobs_enqueue(
    config: ConfigOption,
    all_older: Annotated[bool, typer.Option("--all-older-than-version", help="All that this version has not seen.")],
    as_json: JsonOption = False,
) -> None:
    """Queue the analysis of episodes that have none of this program's version."""
    from lefleet_server.analysis import service

    if not all_older:
        _fail("--all-older-than-version: is the only choice; give it", status=2)

    async def work(db: "Database") -> int:
        async with db.transaction() as session:
            return await service.enqueue_older(session)

    count = _run(_settings(config), work)
    _print(as_json, {"enqueued": count}, f"{count} jobs are new")


@cli.command()
def openapi() -> None:
    """Print the HTTP API's OpenAPI document (docs/openapi.json)."""
    from lefleet_server.app import openapi_document

    typer.echo(openapi_document(), nl=False)


def _settings(config: Path) -> Settings:
    try:
        settings = load(config)
    except ConfigError as error:
        _fail(str(error), status=2)
    logs.configure(settings)
    return settings


async def _nothing(db: "Database") -> None:
    """`serve` only wants the database reached and its schema checked."""


def _run[R](settings: Settings, work: Callable[["Database"], Awaitable[R]], *, migrating: bool = False) -> R:
    """Waits for the database, does the work, and turns what people can mend into one line and exit status 1."""
    import asyncpg  # type: ignore[import-untyped]
    from sqlalchemy.exc import SQLAlchemyError

    from lefleet_server import schema
    from lefleet_server.db import Database, DatabaseDownError
    from lefleet_server.problems import Problem

    async def main() -> R:
        db = Database(settings)
        try:
            await db.wait(maintenance=migrating)
            if not migrating:
                await schema.require_current(db.engine)
            return await work(db)
        finally:
            await db.close()

    try:
        return asyncio.run(main())
    except (DatabaseDownError, schema.SchemaError, Problem) as error:
        _fail(str(error))
    except (SQLAlchemyError, asyncpg.PostgresError, OSError) as error:
        _fail(f"database: {error}")


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        _fail(f"--password-file: {path}: {error.strerror}", status=2)
    password = text.removesuffix("\n")
    if len(password) < 8:
        _fail("--password-file: the password has fewer than 8 characters; choose a longer one", status=2)
    return password


def _check(kind: Any, name: str, value: str) -> None:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        _fail(f"{name}: {value!r}: {error.errors()[0]['msg']}", status=2)


def _print(as_json: bool, values: dict[str, Any], text: str) -> None:
    typer.echo(json.dumps(values) if as_json else text)


def _fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """LeFleet's server."""


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
