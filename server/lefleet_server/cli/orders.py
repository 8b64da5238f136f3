"""What people order robots to do, beside stops: `lefleet robots rest`, `resume`, `task` and `reboot`."""

from typing import Annotated

import typer

from lefleet_server.cli.client import Api, Pages
from lefleet_server.cli.failures import usage
from lefleet_server.cli.options import JsonOption, ProfileOption, Robots, YesOption, confirm, connect, each
from lefleet_server.cli.output import answer
from lefleet_server.cli.robots import AllOption, which

ReasonOption = Annotated[str, typer.Option(help="Why; everybody who may log in reads it.")]


def rest(
    robots: Robots = None,
    everyone: AllOption = False,
    reason: ReasonOption = "",
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let ROBOTs finish their episode and begin no other, whatever restarts, until `lefleet robots resume`."""
    with connect(profile) as api:

        def order(robot: str) -> None:
            said = api.put("/robots/{robot_id}/rest", {"reason": reason}, robot_id=robot)
            answer(as_json, {"robot_id": robot, **said}, f"{robot} rests once its episode has ended")

        each(_named(api, robots, everyone), order)


def resume(
    robots: Robots = None,
    everyone: AllOption = False,
    yes: YesOption = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """End the rest of ROBOTs: their arms may move again, unless somebody asked for rest at the robot itself."""
    with connect(profile) as api:
        names = _named(api, robots, everyone)
        confirm(f"Let these arms move again: {', '.join(names)}?", yes)

        def order(robot: str) -> None:
            said = api.delete("/robots/{robot_id}/rest", robot_id=robot)
            answer(as_json, {"robot_id": robot, **said}, f"{robot} goes on")

        each(names, order)


def task(
    robots: Robots = None,
    everyone: AllOption = False,
    text: Annotated[str | None, typer.Option(help="What the policy is asked to do.")] = None,
    default: Annotated[bool, typer.Option("--default", help="What each robot's settings say.")] = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell ROBOTs what to do, from their next episode on. Policies that read no language take no notice."""
    if (text is None) != default:
        raise usage("--text, --default: give one of the two")
    with connect(profile) as api:

        def order(robot: str) -> None:
            said = api.put("/robots/{robot_id}/task", {"text": text}, robot_id=robot)
            words = "what its settings say" if said["text"] is None else said["text"]
            answer(as_json, {"robot_id": robot, **said}, f"{robot}: {words}")

        each(_named(api, robots, everyone), order)


def reboot(
    robots: Robots = None,
    everyone: AllOption = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reboot the hosts of ROBOTs, each after its episode. Those that would hear of it too late are refused."""
    with connect(profile) as api:
        names = _named(api, robots, everyone)
        confirm(f"Reboot the hosts of {', '.join(names)}?", yes)

        def order(robot: str) -> None:
            said = api.post("/robots/{robot_id}/reboot", {"reason": reason}, robot_id=robot)
            answer(as_json, {"robot_id": robot, **said}, f"{robot} reboots once its episode has ended")

        each(names, order)


def _named(api: Api, robots: list[str] | None, everyone: bool) -> list[str]:
    names = which(robots, everyone)
    if not everyone:
        return names
    return [robot["id"] for robot in Pages(api, "/robots", {}, None) if robot["state"] != "retired"]
