"""Which episodes: the filters that the API offers, as options."""

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from lefleet_server.analysis import FlagName, Quality
from lefleet_server.cli import complete
from lefleet_server.cli.options import SinceOption, UntilOption, moment


class Outcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


RobotFilter = Annotated[str | None, typer.Option(help="Only of this robot.", autocompletion=complete.robots)]


def filters(
    robot: RobotFilter = None,
    policy: Annotated[
        str | None, typer.Option(help="Only of this policy, as `org/name`.", autocompletion=complete.policies)
    ] = None,
    release: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="Only of this commit of the policy, whole; with --policy.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only of this task: its whole text.")] = None,
    outcome: Annotated[
        Outcome | None, typer.Option(help="Only those that ended so: a person's word before the robot's.")
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    interrupted: Annotated[
        bool | None, typer.Option("--interrupted/--whole", help="Only those cut short, or only the others.")
    ] = None,
    quarantined: Annotated[
        bool | None, typer.Option("--quarantined/--sound", help="Only those with an invalid file, or only the others.")
    ] = None,
    flag: Annotated[FlagName | None, typer.Option(help="Only those whose quality is flagged for this.")] = None,
    quality: Annotated[
        Quality | None,
        typer.Option(help="Only those that were looked at and are clean, are flagged for whatever, or are pending."),
    ] = None,
    labelled: Annotated[
        bool | None, typer.Option("--labelled/--unlabelled", help="Only those a person judged, or only the others.")
    ] = None,
    in_set: Annotated[
        str | None,
        typer.Option(help="Only those of this set; `lefleet sets list` names them.", autocompletion=complete.sets),
    ] = None,
) -> dict[str, Any]:
    """What restricts, as the API's parameters."""
    found = {
        "robot": robot,
        "policy": policy,
        "release": release,
        "task": task,
        "outcome": outcome and outcome.value,
        "since": moment(since),
        "until": moment(until),
        "interrupted": interrupted,
        "quarantined": quarantined,
        "flag": flag and flag.value,
        "quality": quality and quality.value,
        "labelled": labelled,
        "in_set": in_set,
    }
    return {name: value for name, value in found.items() if value is not None}


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """The command has the filters as options in the place of its parameter `which`, and gets there what they say."""
    offered = signature(filters).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        which = filters(**{name: given.pop(name) for name in offered})
        command(which=which, **given)

    parameters: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        parameters += offered.values() if parameter.name == "which" else [parameter]
    # By keyword, so that an argument without a default may follow the options.
    named = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__dict__["__signature__"] = Signature(named)
    hints = [get_type_hints(function, include_extras=True) for function in (filters, command)]
    run.__annotations__ = {parameter.name: (hints[0] | hints[1])[parameter.name] for parameter in named}
    return run
