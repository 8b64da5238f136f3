"""`lefleet-agent drain` and `resume`."""

import time
from typing import Annotated, Any

import typer

from lefleet_agent import requests
from lefleet_agent.commands.common import Config, Json, show, withdraw, word
from lefleet_agent.config import load


def drain(
    config: Config,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait until it rests.")] = 0,
    spool: Annotated[bool, typer.Option("--spool", help="Wait also until the server has every episode.")] = False,
    by: Annotated[str, typer.Option(help="Who asks; a robot rests until each of them resumed.")] = "operator",
    as_json: Json = False,
) -> None:
    """Let the robot finish its episode and begin no other until `lefleet-agent resume`, whatever restarts meanwhile."""
    from lefleet_agent.drained import wait_until_delivered, wait_until_drained
    from lefleet_agent.wiring import build_spool

    settings = load(config)
    changed = requests.drain(settings.state_dir).request(word(by))
    values: dict[str, Any] = {"changed": changed}
    deadline = time.monotonic() + wait
    if wait:
        values["state"] = wait_until_drained(settings.state_dir, wait)
    if wait and spool:
        left_s = max(0.0, deadline - time.monotonic())
        values["refused_episodes"] = wait_until_delivered(settings.state_dir, build_spool(settings), left_s)
    show(values, as_json, "it rests" if wait else "it will rest after its episode")


def resume(
    config: Config,
    by: Annotated[str, typer.Option(help="Whose request ends; `all` ends everyone's.")] = "operator",
    as_json: Json = False,
) -> None:
    """End what `drain` asked for: the robot goes on unless someone else wants it to rest."""
    asked = requests.drain(load(config).state_dir)
    ended, others = withdraw(asked, by)
    show(
        {"changed": bool(ended), "asked_by": others},
        as_json,
        f"it still rests, asked by {', '.join(others)}" if others else "it goes on",
    )
