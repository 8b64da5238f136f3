"""The command that saves what the robot just saw."""

import json
from typing import Annotated

import typer

from lefleet_agent import verdict
from lefleet_agent.commands.common import Config, Json, show
from lefleet_agent.config import ConfigError, load

LONGEST = 80


def save_moment(
    config: Config,
    name: Annotated[str, typer.Argument(help="What happened, such as `the cup fell`.")] = "saved by hand",
    as_json: Json = False,
) -> None:
    """Save the last seconds as an episode of their own, while no episode runs (`recording.before_event_s`)."""
    settings = load(config)
    kept_s = settings.recording.before_event_s
    if not kept_s:
        raise ConfigError("recording.before_event_s = 0: nothing is kept; set some seconds and restart control")
    if not (said := " ".join(name.split())) or len(said) > LONGEST:
        raise typer.BadParameter(f"{name!r}: use 1 to {LONGEST} characters", param_hint="NAME")
    try:
        running = json.loads((settings.state_dir / "run" / "control.json").read_text())["episode_id"]
    except (OSError, ValueError, KeyError):
        running = None
    if running:
        show({"saved": False, "episode_id": running}, as_json, f"episode {running} runs and holds these seconds itself")
        return
    verdict.save_moment(settings.state_dir / "run", said)
    show({"saved": True, "seconds": kept_s}, as_json, f"the last {kept_s:g} s become an episode, marked {said!r}")
