"""The server's command line. Exit status: 0 done, 1 cannot be done now, 2 wrong use or settings, 3 fsck's findings."""

import gc
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lefleet_server import __version__, ending
from lefleet_server.accounts.roles import Role
from lefleet_server.commands import identities, jobs, retention
from lefleet_server.commands.common import ConfigOption, JsonOption, check, fail, settings_of, show, with_database
from lefleet_server.fields import PASSWORD_MIN_CHARS, RobotId, Site, Username

# Commands import what they alone need: SQLAlchemy, FastAPI and NiceGUI take seconds on a small machine.
# ruff: noqa: PLC0415
if TYPE_CHECKING:
    from lefleet_server.db import Database

cli = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
users = typer.Typer(no_args_is_help=True, help="People who may log in.")
cli.add_typer(users, name="users")
cli.add_typer(jobs.app, name="jobs")

_CONSOLE = "console"


@cli.command()
def serve(config: ConfigOption) -> None:
    """Answer robots and people until told to stop."""
    import uvicorn

    from lefleet_server.app import create_app
    from lefleet_server.protocol import bounded

    settings = settings_of(config)
    with_database(settings, _nothing)
    app = create_app(settings)
    # What was made so far lives as long as this process: no collection need look through it again. And a busy server
    # makes 700 objects, after which Python looks for cycles unless told otherwise, with a few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=bounded(settings.request_idle_s),
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        # uvicorn's five seconds are a heartbeat's interval: each robot, and the proxy, would connect anew for each.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )


@cli.command()
def migrate(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Bring the database's schema up to date; does nothing when it is."""
    from lefleet_server import schema

    settings = settings_of(config)

    async def work(db: "Database") -> tuple[str | None, str]:
        await schema.ensure_database(settings)
        return await schema.migrate(db.engine)

    before, after = with_database(settings, work, migrating=True)
    changed = before != after
    show(
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

    settings = settings_of(config)
    if settings.postgres_dir is None:
        fail("postgres_dir: is not set, so there is no embedded PostgreSQL to run", status=2)
    try:
        if erase:
            for removed in embedded.erase(settings.postgres_dir):
                typer.echo(f"removed {removed}")
            return
        embedded.run(settings.postgres_dir, settings.postgres_user)
    except (embedded.PostgresError, OSError) as error:
        fail(str(error))


@cli.command("enrol-code")
def enrol_code(
    robot: str,
    config: ConfigOption,
    site: Annotated[str, typer.Option(help="Where the robot stands; a label in lists and metrics.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Print a one-time code with which ROBOT gets its credential."""
    from lefleet_server.robots import service

    check(RobotId, "ROBOT", robot)
    check(Site, "--site", site)
    settings = settings_of(config)

    async def work(db: "Database") -> str:
        async with db.transaction() as session:
            return await service.create_enrolment_code(session, robot, site, settings.enrol_code_ttl_s, _CONSOLE)

    code = with_database(settings, work)
    show(as_json, {"robot_id": robot, "code": code, "ttl_s": settings.enrol_code_ttl_s}, code)


@cli.command()
def robots(config: ConfigOption, as_json: JsonOption = False) -> None:
    """List the robots: how each is, and what it said last."""
    from lefleet_server.robots import service
    from lefleet_server.robots.fleet import Fleet
    from lefleet_server.robots.schemas import RobotList

    settings = settings_of(config)

    async def work(db: "Database") -> RobotList:
        async with db.session() as session:
            page = await service.robot_page(session, settings.offline_after_s)
            return RobotList.of(page, await Fleet(settings.offline_after_s).read(session))

    found = with_database(settings, work)
    lines = (f"{robot.id}  {robot.state}  {robot.last_seen_at or 'never seen'}" for robot in found.items)
    show(as_json, found.model_dump(mode="json"), "\n".join(lines))


@cli.command()
def revoke(robot: str, config: ConfigOption, as_json: JsonOption = False) -> None:
    """Take ROBOT's credential away at once; its episodes stay, and a new enrolment code brings it back."""
    from lefleet_server.robots import service

    check(RobotId, "ROBOT", robot)

    async def work(db: "Database") -> bool:
        async with db.transaction() as session:
            return await service.revoke(session, robot, _CONSOLE)

    changed = with_database(settings_of(config), work)
    show(as_json, {"robot_id": robot, "changed": changed}, f"{robot} is retired")


@cli.command("login-link")
def login_link(config: ConfigOption, user: str = "admin", as_json: JsonOption = False) -> None:
    """Print an address that logs USER in, once."""
    from lefleet_server.accounts import service

    settings = settings_of(config)

    async def work(db: "Database") -> str:
        async with db.transaction() as session:
            return await service.create_login_code(session, user, settings.login_code_ttl_s, _CONSOLE)

    url = f"{settings.address}/login?code={with_database(settings, work)}"
    show(as_json, {"user": user, "url": url, "ttl_s": settings.login_code_ttl_s}, url)


@cli.command("audit")
def audit_log(
    config: ConfigOption,
    actor: Annotated[str | None, typer.Option(help="Only what this one did: user:NAME, robot:ID, console.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, or with `user` also `user.added`.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only what was done to this: robot:ID, user:NAME.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, with every detail.")] = False,
) -> None:
    """Print who changed what, newest first."""
    from lefleet_server.audit import service
    from lefleet_server.audit.schemas import AuditOut

    which = service.AuditFilter(actor, action, subject)

    async def work(db: "Database") -> None:
        async with db.session() as session:
            async for entry in service.every_entry(session, which):
                out = AuditOut.model_validate(entry)
                text = f"{out.at:%Y-%m-%d %H:%M:%S} {out.actor} {out.action} {out.subject} {out.address or '-'}"
                typer.echo(out.model_dump_json() if as_json else text)

    with_database(settings_of(config), work)


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
    """Add a person, or change the role and password of one; does nothing when they are so already.

    Another password ends their log-ins, unused log-in links and tokens.
    """
    from lefleet_server.accounts import service

    check(Username, "USERNAME", username)
    password = _password(password_file)

    async def work(db: "Database") -> service.Ended | None:
        async with db.transaction() as session:
            return await service.put_user(session, username, role, password, _CONSOLE)

    ended = with_database(settings_of(config), work)
    counts = asdict(ended or service.Ended())
    text = f"{username} is {role.value}"
    if any(counts.values()):
        closed = "{sessions} log-ins, {links} log-in links and {tokens} tokens".format(**counts)
        text += f"; with the old password ended {closed}"
    value = {"username": username, "role": role.value, "changed": ended is not None, "ended": counts}
    show(as_json, value, text)


users.command("bind")(identities.bind)
users.command("unbind")(identities.unbind)
cli.command()(jobs.worker)
cli.command()(retention.retention)


@cli.command()
def fsck(
    config: ConfigOption,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended; nothing is deleted.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read every file and compare its SHA-256.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the episodes with their files, both ways; exit status 3 when something is still wrong."""
    from lefleet_server.episodes import fsck_view

    settings = settings_of(config)

    async def work(db: "Database") -> "fsck_view.Report":
        return await fsck_view.run(settings, db, repair=repair, deep=deep, quiet=as_json)

    report = with_database(settings, work)
    show(as_json, report.as_json(), report.as_text())
    if report.remaining:
        raise typer.Exit(3)


@cli.command()
def openapi() -> None:
    """Print the HTTP API's OpenAPI document (docs/openapi.json)."""
    from lefleet_server.app import openapi_document

    typer.echo(openapi_document(), nl=False)


async def _nothing(db: "Database") -> None:
    """`serve` only wants the database reached and its schema checked."""


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"--password-file: {path}: {error.strerror}", status=2)
    password = text.removesuffix("\n")
    if len(password) < PASSWORD_MIN_CHARS:
        fail(
            f"--password-file: the password has fewer than {PASSWORD_MIN_CHARS} characters; choose a longer one",
            status=2,
        )
    return password


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
    ending.run(cli)


if __name__ == "__main__":
    main()
