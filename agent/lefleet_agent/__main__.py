"""The command line, and the only place that builds objects and wires them."""

import json
import os
import platform
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lefleet_agent import __version__, credential
from lefleet_agent.config import AgentSettings, ConfigError, describe, load
from lefleet_agent.credential import Credential, NotEnrolledError
from lefleet_agent.policy import PolicyError
from lefleet_agent.recording.sink import RecorderError
from lefleet_agent.release import ReleaseError, ReleaseStore
from lefleet_agent.robot import RobotError

app = typer.Typer(
    name="lefleet-agent",
    help="Runs a LeRobot policy on this robot, records every episode and brings it to the server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
release_app = typer.Typer(help="The policies on this robot's disk.", no_args_is_help=True)
app.add_typer(release_app, name="release")

Config = Annotated[
    Path, typer.Option("--config", envvar="LEFLEET_AGENT_CONFIG", help="The robot's settings, one YAML file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
console = Console()


@app.command()
def run(config: Config) -> None:
    """Control: drive the robot with the active policy and record every episode."""
    from lefleet_agent.wiring import build_session

    with build_session(load(config), _stop_on_signals()) as session:
        session.run()


@app.command()
def courier(config: Config) -> None:
    """Courier: deliver episodes, send heartbeats and pictures, serve /metrics."""
    from lefleet_agent.wiring import build_courier

    os.nice(5)  # control comes first where cores are few
    settings = load(config)
    build_courier(settings, credential.read(settings.state_dir, settings.robot_id), _stop_on_signals()).run()


@app.command()
def enrol(
    config: Config,
    code: Annotated[str, typer.Option(help="One-time code of `lefleet-server enrol-code`; `-` reads it.")] = "-",
) -> None:
    """Turn a one-time code into this robot's own credential."""
    from lefleet_agent.courier.api import ServerApi

    settings = load(config)
    url = str(settings.server_url)
    word = sys.stdin.readline().strip() if code == "-" else code
    if not word:
        raise typer.BadParameter(
            "the code is empty; run `lefleet-server enrol-code` on the server", param_hint="--code"
        )
    api = ServerApi(url, timeout_s=settings.courier.timeout_s)
    token = api.enrol(word, settings.robot_id, __version__, platform.machine())
    api.close()
    credential.write(settings.state_dir, Credential(settings.robot_id, url, token))
    console.print(f"{settings.robot_id} is enrolled at {url}")


@release_app.command("install")
def release_install(
    folder: Annotated[Path, typer.Argument(help="A LeRobot pretrained folder.", exists=True, file_okay=False)],
    config: Config,
    repo: Annotated[str, typer.Option(help="Hub repository it comes from.")] = "",
    commit: Annotated[str, typer.Option(help="Commit of that repository.")] = "",
    as_json: Json = False,
) -> None:
    """Check a policy, copy it into the release store and make it the active one from the next episode on."""
    settings = load(config)
    info, changed = _releases(settings).install(folder, repo or folder.name, commit)
    _show(
        {"changed": changed} | info.reference(),
        as_json,
        f"{'activated' if changed else 'already active'}: {info.repo} {info.digest[:12]}",
    )


@release_app.command("status")
def release_status(config: Config, as_json: Json = False) -> None:
    """Verify the active policy's every file against its hash."""
    _, info = _releases(load(config)).active()
    _show(info.reference(), as_json, f"active and intact: {info.repo} {info.digest[:12]} ({info.type})")


@app.command()
def status(config: Config, as_json: Json = False) -> None:
    """What this robot is doing, and what waits for the server."""
    from lefleet_agent.wiring import build_report

    values = build_report(load(config)).heartbeat("")
    del values["metrics"]
    if as_json:
        print(json.dumps(values))
        return
    table = Table(show_header=False)
    for name, value in values.items():
        table.add_row(name, json.dumps(value) if isinstance(value, dict) else str(value))
    console.print(table)


@app.command()
def settings(as_json: Json = False) -> None:
    """Every setting with its default and what it means."""
    rows = [dict(zip(("name", "default", "meaning"), row, strict=True)) for row in describe()]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("name", "default", "meaning")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)


def main() -> None:
    """Foreseen failures end with one sentence and exit code 1; wrong usage with 2."""
    from lefleet_agent.courier.api import ServerError
    from lefleet_agent.logs import configure

    configure()

    try:
        app()
    except (ConfigError, NotEnrolledError, ReleaseError, PolicyError, RobotError, RecorderError, ServerError) as error:
        print(f"lefleet-agent: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _releases(settings: AgentSettings) -> ReleaseStore:
    return ReleaseStore(settings.state_dir / "releases")


def _show(values: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        print(json.dumps(values))
    else:
        console.print(sentence)


if __name__ == "__main__":
    main()
