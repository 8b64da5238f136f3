"""What people say about robots (a verdict on what runs, notes), and what happened to them over time."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lefleet_server.cli.failures import Failure, usage
from lefleet_server.cli.options import JsonOption, ProfileOption, Robot, connect, episode_ids, examples
from lefleet_server.cli.output import Column, answer, local, note, print_json, show_items
from lefleet_server.cli.robots import app
from lefleet_server.robots import Word

Most = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Most of them.")]


class What(StrEnum):
    STATE = "state"
    POLICY = "policy"
    CALIBRATION = "calibration"
    AGENT = "agent"


def verdict(
    robot: Robot,
    word: Annotated[Word, typer.Argument(help="`redo`: it does not count and is done again.")],
    episode: Annotated[
        str | None, typer.Option(metavar="ID", help="Only if this one runs; else the one that the robot says runs.")
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """End the episode that runs on ROBOT with this outcome. Kept in the audit log."""
    with connect(profile) as api:
        if episode is None:
            running = (api.get("/robots/{robot_id}", robot_id=robot)["heartbeat"] or {}).get("episode_id")
            if running is None:
                raise Failure(f"{robot}: no episode runs; `lefleet robots show {robot}` says what it does")
        else:
            (running,) = episode_ids([episode])
        said = api.put("/robots/{robot_id}/verdict", {"episode_id": running, "word": word.value}, robot_id=robot)
    answer(as_json, said, f"{robot}: episode {running} ends with {word.value}")


@app.command("notes", epilog=examples("lefleet robots notes robot-1"))
def notes(robot: Robot, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Print what people wrote about ROBOT, Markdown."""
    with connect(profile) as api:
        found = api.get("/robots/{robot_id}/notes", robot_id=robot)
    if as_json:
        print_json(found)
    elif found["version"]:
        typer.echo(found["text"])
        note(f"Version {found['version']}, {local(found['written_at'])} by {found['written_by']}")
    else:
        note("nobody wrote anything")


@app.command(
    "write-notes",
    epilog=examples(
        "lefleet robots write-notes robot-1 notes.md --version 3", "... | lefleet robots write-notes robot-1 -"
    ),
)
def write_notes(
    robot: Robot,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Markdown; `-`: from standard input.")],
    version: Annotated[
        int | None, typer.Option(min=0, help="Only if nobody wrote since this one; left out: over whatever is there.")
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace what people wrote about ROBOT."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise usage(f"FILE: {file}: cannot be read as text: {error}") from error
    with connect(profile) as api:
        seen = api.get("/robots/{robot_id}/notes", robot_id=robot)["version"] if version is None else version
        done = api.put("/robots/{robot_id}/notes", {"text": text, "version": seen}, robot_id=robot)
    answer(as_json, done, f"{robot}: version {done['version']} is written")


@app.command("changes", epilog=examples("lefleet robots changes robot-1 --what calibration"))
def changes(
    robot: Robot,
    what: Annotated[What | None, typer.Option(help="Only this.")] = None,
    limit: Most = 100,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List when ROBOT said something else than before: its state, policy, calibration, program. Newest first."""
    columns: list[Column] = [
        ("WHEN", lambda change: local(change["at"])),
        ("WHAT", lambda change: change["what"]),
        ("NOW", lambda change: change["new"]),
        ("BEFORE", lambda change: change["old"] or ""),
    ]
    with connect(profile) as api:
        which = {"what": what and what.value, "limit": limit}
        found = api.get("/robots/{robot_id}/changes", which, robot_id=robot)["items"]
    show_items(as_json, found, columns, "no changes are known", ["NOW", "BEFORE"])


@app.command("events", epilog=examples("lefleet robots events robot-1 -n 20"))
def events(
    robot: Robot,
    limit: Most = 100,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what people did to ROBOT, and what it said differently than before. Newest first."""
    columns: list[Column] = [
        ("WHEN", lambda event: local(event["at"])),
        ("WHAT", lambda event: event["what"]),
        ("DETAIL", lambda event: event["detail"]),
        ("BY", lambda event: event["by"]),
    ]
    with connect(profile) as api:
        found = api.get("/robots/{robot_id}/events", {"limit": limit}, robot_id=robot)["items"]
    show_items(as_json, found, columns, "nothing yet", ["DETAIL"])
