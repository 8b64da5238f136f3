"""The command line, and the only place that builds objects and wires them."""

import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lefleet_agent import __version__, credential, liveness, requests
from lefleet_agent.commands import fit, moment, refused, replay, rest, teleop
from lefleet_agent.commands.common import Config, Json, aside, console, stop_in_time, stop_on_signals
from lefleet_agent.commands.common import show as _show
from lefleet_agent.commands.common import withdraw as _withdraw
from lefleet_agent.commands.common import word as _word
from lefleet_agent.config import AgentSettings, ConfigError, describe, load
from lefleet_agent.credential import Credential, NotEnrolledError
from lefleet_agent.fit.report import FitFileError
from lefleet_agent.occupied import OccupiedError
from lefleet_agent.policy import PolicyError
from lefleet_agent.recording.recorded import EpisodeFileError
from lefleet_agent.recording.sink import RecorderError
from lefleet_agent.release import ReleaseError, ReleaseStore
from lefleet_agent.replay import ReplayError
from lefleet_agent.robot import RobotError
from lefleet_agent.stopping import EXIT_CUT_SHORT, CutShortError
from lefleet_agent.verdict import Verdict, Word, leave

if TYPE_CHECKING:
    from lefleet_agent.doctor.finding import Finding

app = typer.Typer(
    name="lefleet-agent",
    help="Runs a LeRobot policy on this robot, records every episode and brings it to the server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
release_app = typer.Typer(help="The policies on this robot's disk.", no_args_is_help=True)
app.add_typer(release_app, name="release")

_TONES = {"good": "green", "warning": "yellow", "bad": "bold red", "unknown": "dim"}


@app.command()
def run(config: Config) -> None:
    """Control: drive the robot with the active policy and record every episode."""
    from lefleet_agent import keyboard, realtime
    from lefleet_agent.wiring import build_session

    settings = load(config)
    with build_session(settings, stop_in_time()) as session, keyboard.listening(settings.state_dir / "run", aside):
        realtime.claim()
        session.run()


@app.command()
def courier(config: Config) -> None:
    """Courier: deliver episodes, send heartbeats and pictures, serve /metrics."""
    from lefleet_agent.wiring import build_courier

    os.nice(5)  # control comes first where cores are few
    settings = load(config)
    build_courier(settings, credential.read(settings.state_dir, settings.robot_id), stop_on_signals()).run()


@app.command()
def enrol(
    config: Config,
    code: Annotated[str, typer.Option(help="One-time code of `lefleet-server enrol-code`; `-` reads it.")] = "-",
) -> None:
    """Turn a one-time code into this robot's own credential."""
    from lefleet_agent.wiring import build_api

    settings = load(config)
    url = str(settings.server_url)
    word = sys.stdin.readline().strip() if code == "-" else code
    if not word:
        raise typer.BadParameter(
            "the code is empty; run `lefleet-server enrol-code` on the server", param_hint="--code"
        )
    api = build_api(settings)
    token = api.enrol(word, settings.robot_id, __version__, platform.machine())
    api.close()
    issued_wall_s = time.time() + (api.clock_offset_s or 0.0)
    credential.write(settings.state_dir, Credential(settings.robot_id, url, token, round(issued_wall_s, 1)))
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
def health(
    config: Config,
    part: Annotated[str, typer.Argument(help="`control` or `courier`; both if not given.")] = "",
    as_json: Json = False,
) -> None:
    """Whether control and courier are alive, as a watchdog asks: exit status 1 when one hangs or is gone."""
    if part and part not in liveness.PARTS:
        raise typer.BadParameter(f"{part!r} is neither control nor courier", param_hint="PART")
    run_dir, now_ns = load(config).state_dir / "run", time.monotonic_ns()
    found = {each: liveness.health(run_dir, each, now_ns) for each in ([part] if part else liveness.PARTS)}
    lines = [f"{name} is alive{f': {each.state}' if each.state else ''}" if each.alive else each.detail
             for name, each in found.items()]  # fmt: skip
    _show({name: asdict(each) for name, each in found.items()}, as_json, "\n".join(lines))
    if not all(each.alive for each in found.values()):
        raise typer.Exit(1)


app.command("drain")(rest.drain)
app.command("resume")(rest.resume)
app.command("retry-refused")(refused.retry_refused)


@app.command()
def doctor(config: Config, as_json: Json = False) -> None:
    """Look at arm, cameras, disk, memory, clock, policy and server; exit status 1 when anything is bad."""
    from lefleet_agent.doctor.finding import Verdict
    from lefleet_agent.wiring_doctor import build_doctor

    findings = []
    with Console(stderr=True).status("looking at this robot"):
        for finding in build_doctor(load(config)):
            findings.append(finding)
            if not as_json:
                _tell(finding)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    if any(finding.verdict is Verdict.BAD for finding in findings):
        raise typer.Exit(1)


app.command("fit")(fit.fit)
app.command("replay")(replay.replay)
app.command("save-moment")(moment.save_moment)


@app.command()
def estop(
    config: Config,
    clear: Annotated[bool, typer.Option("--clear", help="End the emergency stop of `--by`.")] = False,
    by: Annotated[str, typer.Option(help="Who asks; with `--clear`, `all` ends everyone's.")] = "operator",
    as_json: Json = False,
) -> None:
    """Emergency stop: the arm holds still at its next tick, torque on, until `--clear`. Needs no server."""
    asked = requests.emergency_stop(load(config).state_dir)
    if not clear:
        changed = asked.request(_word(by))
        _show({"changed": changed, "asked_by": asked.asked_by()}, as_json, "the arm holds still")
        return
    ended, others = _withdraw(asked, by)
    still = f"it still holds still, asked by {', '.join(others)}"
    _show({"changed": bool(ended), "asked_by": others}, as_json, still if others else "it goes on")


@app.command()
def outcome(
    config: Config,
    word: Annotated[Word, typer.Argument(help="How the running episode went; `redo`: it does not count.")],
    as_json: Json = False,
) -> None:
    """End the running episode with this outcome, as a person beside the robot judges it."""
    leave(load(config).state_dir / "run", Verdict(word))
    _show({"outcome": word}, as_json, f"the running episode ends: {word}")


teleop.register(app)


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
    """Foreseen failures end with one sentence and exit code 1; wrong usage with 2; a stop that was cut short with 3."""
    from lefleet_agent.courier.errors import ServerError
    from lefleet_agent.drained import DrainError
    from lefleet_agent.logs import configure
    from lefleet_agent.spool import SpoolError

    configure()

    try:
        app()
    except (
        ConfigError,
        NotEnrolledError,
        ReleaseError,
        PolicyError,
        RobotError,
        RecorderError,
        ServerError,
        DrainError,
        SpoolError,
        OccupiedError,
        FitFileError,
        ReplayError,
        EpisodeFileError,
    ) as error:
        print(f"lefleet-agent: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except CutShortError as error:
        print(f"lefleet-agent: {error}", file=sys.stderr)
        raise SystemExit(EXIT_CUT_SHORT) from error


def _tell(finding: "Finding") -> None:
    """The verdict and the part in columns, the remedy below what was found."""
    grid = Table.grid(padding=(0, 2))
    for width in (7, 18, None):
        grid.add_column(width=width)
    tone = _TONES[finding.verdict]
    grid.add_row(f"[{tone}]{finding.verdict}[/]", finding.part, escape(finding.what))
    if finding.remedy:
        grid.add_row("", "", f"[cyan]{escape(finding.remedy)}[/]")
    console.print(grid)


def _releases(settings: AgentSettings) -> ReleaseStore:
    return ReleaseStore(settings.state_dir / "releases")


if __name__ == "__main__":
    main()
