"""What commands share: their usual options, and being stopped."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path, typer.Option("--config", envvar="LEFLEET_AGENT_CONFIG", help="The robot's settings, one YAML file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
