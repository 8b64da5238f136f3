"""Which episodes: the filters that the API offers, as options."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from lefleet_server.cli.options import complete_robots, moment


class Outcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


RobotFilter = Annotated[str | None, typer.Option(help="Only of this robot.", autocompletion=complete_robots)]
PolicyFilter = Annotated[str | None, typer.Option(help="Only of this policy, as `org/name`.")]
OutcomeFilter = Annotated[
    Outcome | None, typer.Option(help="Only those that ended so: a person's word before the robot's.")
]
InterruptedFilter = Annotated[
    bool | None, typer.Option("--interrupted/--whole", help="Only those cut short, or only the others.")
]
QuarantinedFilter = Annotated[
    bool | None, typer.Option("--quarantined/--sound", help="Only those with an invalid file, or only the others.")
]


def filters(
    robot: str | None,
    policy: str | None,
    outcome: Outcome | None,
    since: str | None,
    until: str | None,
    interrupted: bool | None,
    quarantined: bool | None,
) -> dict[str, Any]:
    """What restricts, as the API's parameters."""
    found = {
        "robot": robot,
        "policy": policy,
        "outcome": outcome and outcome.value,
        "since": moment(since),
        "until": moment(until),
        "interrupted": interrupted,
        "quarantined": quarantined,
    }
    return {name: value for name, value in found.items() if value is not None}
