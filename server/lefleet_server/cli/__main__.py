"""Assembles the commands, and turns every failure into one sentence and an exit status."""

import sys
from typing import Annotated

import typer

from lefleet_server import __version__
from lefleet_server.cli import (
    comparison,
    episodes,
    exports,
    fetch,
    keeping,
    labels,
    login,
    orders,
    output,
    own,
    people,
    previews,
    records,
    retention,
    robots,
    sets,
    views,
    words,
)
from lefleet_server.cli.failures import Failure
from lefleet_server.cli.options import examples

PROGRAM = "lefleet"

cli = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["--help", "-h"]}
)

cli.command(
    "login",
    epilog=examples(
        "lefleet login https://fleet.example.org --user ann",
        "lefleet login https://192.0.2.10 --ca-file ca.crt --profile lab --scope read",
        "lefleet login https://fleet.example.org --token",
        "lefleet login https://fleet.example.org --token-file token --profile ci",
    ),
)(login.login)
cli.command("logout", epilog=examples("lefleet logout --profile lab"))(login.logout)
cli.add_typer(login.known, name="profiles")
cli.command("status", epilog=examples("lefleet status", "lefleet status --profile lab --json"))(login.status)
cli.add_typer(robots.app, name="robots")
cli.add_typer(views.app, name="views")
cli.command(
    "emergency-stop",
    epilog=examples("lefleet emergency-stop robot-1 robot-2", "lefleet emergency-stop --all"),
)(robots.emergency_stop)
cli.command("estop", hidden=True)(robots.emergency_stop)  # as lefleet-agent has it: in a hurry, both names must work
cli.command("clear", epilog=examples("lefleet clear robot-1", "lefleet clear --all --yes"))(robots.clear)
cli.command(
    "verdict",
    epilog=examples("lefleet verdict robot-1 success", "lefleet verdict robot-1 redo --episode ID"),
)(words.verdict)
robots.app.command(
    "rest", epilog=examples("lefleet robots rest robot-1 --reason 'new gripper'", "lefleet robots rest --all")
)(orders.rest)
robots.app.command("resume", epilog=examples("lefleet robots resume robot-1", "lefleet robots resume --all --yes"))(
    orders.resume
)
robots.app.command(
    "task",
    epilog=examples(
        'lefleet robots task robot-1 robot-2 --text "Sort the bolts"', "lefleet robots task --all --default"
    ),
)(orders.task)
robots.app.command("reboot", epilog=examples("lefleet robots reboot robot-1 --reason 'the GPU driver hangs'"))(
    orders.reboot
)
cli.add_typer(episodes.app, name="episodes")
episodes.app.command(
    "label",
    epilog=examples(
        "lefleet episodes label failure ID --note 'dropped the cube'",
        "lefleet episodes list --robot robot-1 --since 1h --ids | lefleet episodes label success -",
        "lefleet episodes undo",
    ),
)(labels.label)
episodes.app.command(
    "note",
    epilog=examples(
        "lefleet episodes note 'the light was off' ID",
        "lefleet episodes list --robot robot-1 --since 1h --ids | lefleet episodes note 'new gripper' -",
        "lefleet episodes note '' ID",
    ),
)(labels.note)
episodes.app.command("undo", epilog=examples("lefleet episodes undo"))(labels.undo)
episodes.app.command(
    "download",
    epilog=examples(
        "lefleet episodes download ID --to episodes/",
        "lefleet episodes download --policy lab/act-cube --outcome success --sound --since 7d --to train/",
        "lefleet episodes list --outcome failure --ids | lefleet episodes download - --to failures/",
    ),
)(fetch.download)
episodes.app.command(
    "export",
    epilog=examples(
        "lefleet episodes export ID --format rrd -o episode.rrd && rerun episode.rrd",
        "lefleet episodes export ID --format mcap -o episode.mcap",
    ),
)(exports.export)
episodes.app.command("previews", epilog=examples("lefleet episodes previews ID"))(previews.previews)
episodes.app.command("video", epilog=examples("lefleet episodes video ID wrist --to wrist.mp4"))(previews.video)
cli.command("quarantine", epilog=examples("lefleet quarantine --robot robot-1"))(episodes.quarantine)
cli.add_typer(sets.app, name="sets")
cli.command(
    "compare",
    epilog=examples("lefleet compare --since 7d", "lefleet compare --by release --policy lab/act-cube --in-set cubes"),
)(comparison.compare)
cli.command("policies", epilog=examples("lefleet policies"))(comparison.policies)
cli.command("holds", epilog=examples("lefleet holds"))(keeping.holds)
cli.add_typer(retention.app, name="retention")
cli.command("storage", epilog=examples("lefleet storage"))(keeping.storage)
cli.add_typer(records.jobs, name="jobs")
cli.command("audit", epilog=examples("lefleet audit --subject robot:robot-1 --since 1d"))(records.audit)
cli.add_typer(people.app, name="people")
cli.add_typer(own.tokens, name="tokens")
cli.add_typer(own.sessions, name="sessions")
cli.command("password", epilog=examples("lefleet password", "lefleet password --user ann"))(own.password)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback(
    epilog="Exit status: 0 done, 1 refused or failed, 2 wrong use, 3 done in part, 4 the server cannot be reached."
)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A LeFleet fleet from the command line."""


def main() -> None:
    try:
        cli(prog_name=PROGRAM)
    except Failure as failure:
        output.complain(failure.message)
        sys.exit(failure.status)


if __name__ == "__main__":
    main()
