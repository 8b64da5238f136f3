"""What the commands have in common: their options, and how they answer people and scripts."""

import json
import re
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lefleet_agent.requests import Requests
from lefleet_agent.stopping import Stop

Config = Annotated[
    Path, typer.Option("--config", envvar="LEFLEET_AGENT_CONFIG", help="The robot's settings, one YAML file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
console = Console()


def aside(sentence: str) -> None:
    """For people only, beside what is printed for scripts."""
    Console(stderr=True).print(sentence, highlight=False)


def show(values: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        print(json.dumps(values))
    else:
        console.print(sentence)


def word(by: str) -> str:
    """Who asks, as a file may be called."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", by):
        raise typer.BadParameter(f"{by!r} is no name; use small letters, digits and `-`", param_hint="--by")
    return by


def withdraw(asked: Requests, by: str) -> tuple[list[str], list[str]]:
    """Who no longer asks, and who still does."""
    whose = asked.asked_by() if by == "all" else [word(by)]
    return [each for each in whose if asked.withdraw(each)], asked.asked_by()


def stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def stop_in_time() -> Stop:
    """As `stop_on_signals`, for what drives an arm: the process ends within ten seconds of the signal."""
    stop = Stop()
    stop.on_signals()
    return stop
