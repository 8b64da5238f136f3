"""The commands of a person at the leader arm."""

from typing import Annotated

import typer

from lefleet_agent import requests
from lefleet_agent.commands.common import Config, Json, aside, show, stop_in_time, withdraw, word
from lefleet_agent.config import AgentSettings, ConfigError, load
from lefleet_agent.verdict import begin_episode

By = Annotated[str, typer.Option(help="Who takes the arm, such as a pedal; it is led until each handed back.")]


def takeover(config: Config, by: By = "operator", as_json: Json = False) -> None:
    """Take the arm from the policy with the leader arm, also in the middle of an episode, until `handback`."""
    settings = load(config)
    _need_leader(settings)
    asked = requests.takeover(settings.state_dir)
    changed = asked.request(word(by))
    show({"changed": changed, "asked_by": asked.asked_by()}, as_json, "the arm comes to the leader arm and follows it")


def handback(
    config: Config,
    by: Annotated[str, typer.Option(help="Whose takeover ends; `all` ends everyone's.")] = "operator",
    as_json: Json = False,
) -> None:
    """End what `takeover` asked for: the policy drives again, from where the arm is."""
    ended, others = withdraw(requests.takeover(load(config).state_dir), by)
    still = f"it is still in the hands of {', '.join(others)}"
    show({"changed": bool(ended), "asked_by": others}, as_json, still if others else "the policy drives")


def begin(config: Config, as_json: Json = False) -> None:
    """Begin the episode for which the arm follows the leader arm (`reset: leader`, or `lefleet-agent record`)."""
    begin_episode(load(config).state_dir / "run")
    show({"begun": True}, as_json, "the episode begins")


def record(
    config: Config,
    task: Annotated[str, typer.Option(help="What is demonstrated; the setting `task` if not given.")] = "",
    episodes: Annotated[int | None, typer.Option(min=1, help="How many, then end; no end if not given.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest time of an episode.")] = 60.0,
) -> None:
    """Record demonstrations with the leader arm, without a policy; control must not run."""
    from lefleet_agent import keyboard, realtime
    from lefleet_agent.wiring import build_session

    settings = load(config)
    _need_leader(settings)
    changes = {"task": task or settings.task, "episode_time_limit_s": seconds, "reset": "leader"}
    demonstrated = settings.model_copy(update=changes)
    with (
        build_session(demonstrated, stop_in_time(), demonstrations=True, episodes=episodes) as session,
        keyboard.listening(settings.state_dir / "run", aside),
    ):
        realtime.claim()
        session.run()


def register(app: typer.Typer) -> None:
    for command in (takeover, handback, begin, record):
        app.command()(command)


def _need_leader(settings: AgentSettings) -> None:
    if settings.leader is None:
        raise ConfigError("leader = null: there is no leader arm; set leader.type, port and calibration_id")
