"""`lefleet-agent replay`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lefleet_agent.commands.common import Config, Json, console, stop_on_signals
from lefleet_agent.config import load


def replay(
    episode: Annotated[Path, typer.Argument(help="An episode file.", exists=True, dir_okay=False)],
    config: Config,
    speed: Annotated[float, typer.Option(min=0.05, max=1, help="Share of the recorded speed.")] = 1.0,
    requested: Annotated[bool, typer.Option("--requested", help="What was asked for, not what was sent.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also with another calibration.")] = False,
    as_json: Json = False,
) -> None:
    """Play an episode's actions on this robot, through the same safety limits; exit status 1 when it was cut short."""
    from lefleet_agent.wiring_replay import Wish, replay_episode

    stop, aside = stop_on_signals(), Console(stderr=True)

    def warn(sentence: str) -> None:
        aside.print(f"[yellow]warning: {escape(sentence)}[/]")

    with aside.status("playing; Ctrl-C or `lefleet-agent estop` stops the arm where it is"):
        found = replay_episode(load(config), episode, Wish(speed, requested, force), warn, stop)
    if as_json:
        print(json.dumps(found))
    else:
        _tell(found)
    if found["interrupted"]:
        raise typer.Exit(1)


def _tell(found: dict[str, Any]) -> None:
    table = Table("joint", "unit", "RMS", "largest", title="How far the arm was from the episode's positions")
    for name, joint in found["joints"].items():
        table.add_row(name, joint["unit"], f"{joint['rms']:.2f}", f"{joint['max']:.2f}")
    console.print(table)
    console.print(
        f"{found['played']} of {found['ticks']} ticks played, {found['held']} held still, {found['clamped']} changed "
        f"by range or slew limit; {found['outcome']}: {escape(found['reason'])}"
    )
