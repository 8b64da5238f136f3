"""`lefleet compare` and `lefleet policies`."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from lefleet_server.cli.filters import filtered
from lefleet_server.cli.options import JsonOption, ProfileOption, connect
from lefleet_server.cli.output import Column, Item, note, print_json, show_items


class By(StrEnum):
    POLICY = "policy"
    RELEASE = "release"


@filtered
def compare(
    which: dict[str, Any],
    by: Annotated[By, typer.Option(help="A policy is a Hub repo, a release one commit of it.")] = By.POLICY,
    baseline: Annotated[
        str | None, typer.Option(help="What the others are compared with, as the list names it; else the largest.")
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare how often policies or releases succeed, over the episodes that the filters choose."""
    with connect(profile) as api:
        found = api.get("/comparison", which | {"by": by.value, "baseline": baseline})
    if as_json:
        print_json(found)
        return
    columns: list[Column] = [
        (by.value.upper(), lambda group: group["key"]),
        ("SUCCESS", lambda group: f"{group['successes']} of {group['judged']}"),
        ("RATE", lambda group: "" if group["rate"] is None else f"{group['rate']:.1%}"),
        ("95 %", lambda group: f"{group['low']:.1%} to {group['high']:.1%}" if group["judged"] else ""),
        ("UNKNOWN", lambda group: str(group["unknown"])),
        ("COMPARED", _words),
    ]
    show_items(False, found["groups"], columns, "no episodes match", ["COMPARED"])
    if found["cut"]:
        note(f"Only the newest {found['episodes']} episodes are counted.")


def policies(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List the policies of which there are episodes, by name."""
    with connect(profile) as api:
        show_items(as_json, api.get("/policies")["items"], [("POLICY", lambda policy: policy["name"])], "no policies")


def _words(group: Item) -> str:
    return group["difference"]["words"] if group["difference"] else "the baseline"
