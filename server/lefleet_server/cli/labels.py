"""`lefleet episodes label`, `note` and `undo`: what people think of episodes."""

from collections.abc import Sequence
from enum import StrEnum
from itertools import batched
from typing import Annotated

import typer

from lefleet_server.cli import last_labels
from lefleet_server.cli.client import PAGE, Api
from lefleet_server.cli.episodes import Ids
from lefleet_server.cli.failures import Failure, Refused
from lefleet_server.cli.last_labels import Kept
from lefleet_server.cli.options import (
    JsonOption,
    ProfileOption,
    YesOption,
    confirm,
    connect,
    each,
    ended,
    episode_ids,
)
from lefleet_server.cli.output import Item, answer, complain, local


class Verdict(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"
    NONE = "none"
    """Takes a person's judgement back."""


def label(
    verdict: Annotated[Verdict, typer.Argument(help="`none` takes the judgement back; the note stays.")],
    episodes: Ids,
    remark: Annotated[
        str | None, typer.Option("--note", help="Why. Left out: the note that is there stays. Empty: it is taken away.")
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how episodes ended, as a person judges it. Kept in the audit log; `lefleet episodes undo` takes it back."""
    ids = episode_ids(episodes)
    outcome = None if verdict is Verdict.NONE else verdict.value
    change: Item = {"outcome": outcome}
    if remark is not None:
        change["note"] = remark.strip() or None
    with connect(profile) as api:
        _change(api, ids, change, outcome or "no label", as_json)


def note(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Empty: takes the note away that is there.")],
    episodes: Ids,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a note on episodes; how they ended stays as it is. `lefleet episodes undo` takes it back."""
    ids = episode_ids(episodes)
    with connect(profile) as api:
        _change(api, ids, {"note": text.strip() or None}, "noted" if text.strip() else "no note", as_json)


def undo(profile: ProfileOption = None, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Take back the last `label` or `note` from here. What somebody changed since stays so: exit status 3."""
    kept = last_labels.load()
    with connect(profile) as api:
        if kept.url != api.profile.url:
            raise Failure(
                f"the last labels from here were changed at {kept.url}, not at {api.profile.url}; "
                "give the `--profile` of that fleet"
            )
        count = len(kept.labels)
        confirm(f"Give {count} episodes the labels back that they had before {local(kept.at)}?", yes)
        undone = 0
        for some in batched(kept.labels, PAGE):
            before = {each["id"]: each for each in some}
            for done in api.patch("/episodes", {"labels": some})["labels"]:
                now = before[done["id"]]
                _told(done["id"], {"outcome": now["outcome"], "note": now["note"]}, "as before", as_json)
                undone += 1
    last_labels.forget()
    if undone < count:
        complain(f"{count - undone} of {count} stay as they are: somebody changed or deleted them since")
    ended(undone, count - undone)


def _change(api: Api, ids: Sequence[str], change: Item, said: str, as_json: bool) -> None:
    kept = Kept(api.profile.url)

    def put(*some: str) -> None:
        done = api.patch("/episodes", {"labels": [{"id": episode_id, **change} for episode_id in some]})
        kept.add(done["labels"])
        for episode_id in some:
            _told(episode_id, change, said, as_json)

    left: list[str] = []
    for some in batched(ids, PAGE):
        try:
            put(*some)
        except Refused as error:
            if error.code != 404 or len(ids) == 1:
                raise
            # All of a request or none: one that is not there must not keep the others from their label.
            left += some
    each(left, put)


def _told(episode_id: str, change: Item, said: str, as_json: bool) -> None:
    done = {"id": episode_id, **{f"label_{name}": value for name, value in change.items()}}
    answer(as_json, done, f"{episode_id}  {said}")
