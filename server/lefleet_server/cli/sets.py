"""`lefleet sets`: named collections of episodes, as training wants them."""

from collections.abc import Iterable
from itertools import batched
from pathlib import Path
from typing import Annotated, Any

import typer

from lefleet_server.cli import complete, files
from lefleet_server.cli.client import PAGE
from lefleet_server.cli.episodes import Ids
from lefleet_server.cli.filters import filtered
from lefleet_server.cli.options import (
    JsonOption,
    ProfileOption,
    ToOption,
    YesOption,
    confirm,
    connect,
    episode_ids,
    examples,
)
from lefleet_server.cli.output import Column, Item, answer, local, show, show_items
from lefleet_server.cli.progress import Bar

app = typer.Typer(no_args_is_help=True, help="Sets of episodes; an episode may be in many.")

Name = Annotated[str, typer.Argument(metavar="SET", autocompletion=complete.sets)]


@app.command("list", epilog=examples("lefleet sets list"))
def list_sets(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List the sets by name."""
    columns: list[Column] = [
        ("SET", lambda made: made["name"]),
        ("EPISODES", lambda made: str(made["episodes"])),
        ("MADE", lambda made: local(made["created_at"])),
        ("BY", lambda made: made["created_by"]),
        ("NOTE", lambda made: made["note"]),
    ]
    with connect(profile) as api:
        show_items(as_json, api.get("/sets")["items"], columns, "no sets; `lefleet sets create` makes one", ["NOTE"])


@app.command("show", epilog=examples("lefleet sets show cubes", "lefleet episodes list --in-set cubes"))
def show_set(name: Name, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show one set."""
    with connect(profile) as api:
        found = api.get("/sets/{name}", name=name)
    made = f"{local(found['created_at'])} by {found['created_by']}"
    rows = [("set", found["name"]), ("episodes", str(found["episodes"])), ("made", made), ("note", found["note"])]
    show(as_json, found, rows)


@app.command("create", epilog=examples("lefleet sets create cubes --note 'for the second policy'"))
def create(
    name: Name,
    remark: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an empty set."""
    with connect(profile) as api:
        made = api.post("/sets", {"name": name, "note": remark})
    answer(as_json, made, f"{name} is made")


@app.command("delete", epilog=examples("lefleet sets delete cubes"))
def delete(name: Name, profile: ProfileOption = None, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Delete a set; its episodes stay."""
    confirm(f"Delete the set {name}? Its episodes stay.", yes)
    with connect(profile) as api:
        api.delete("/sets/{name}", name=name)
    answer(as_json, {"name": name, "deleted": True}, f"{name} is deleted")


@app.command("add", epilog=examples("lefleet sets add cubes ID", "cat ids | lefleet sets add cubes -"))
def add(name: Name, episodes: Ids, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Add episodes to a set."""
    _change(name, "add", episode_ids(episodes), profile, as_json)


@app.command("remove", epilog=examples("lefleet sets remove cubes ID"))
def remove(name: Name, episodes: Ids, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Take episodes out of a set."""
    _change(name, "remove", episode_ids(episodes), profile, as_json)


@app.command("add-matching", epilog=examples("lefleet sets add-matching cubes --policy lab/act-cube --outcome success"))
@filtered
def add_matching(name: Name, which: dict[str, Any], profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Add every episode that the filters choose, up to 100,000."""
    with connect(profile) as api:
        _told(name, api.post("/sets/{name}/episodes/matching", params=which, name=name), as_json)


@app.command("remove-matching", epilog=examples("lefleet sets remove-matching cubes --quarantined"))
@filtered
def remove_matching(
    name: Name, which: dict[str, Any], profile: ProfileOption = None, as_json: JsonOption = False
) -> None:
    """Take every episode that the filters choose out of a set."""
    with connect(profile) as api:
        _told(name, api.delete("/sets/{name}/episodes/matching", which, name=name), as_json)


@app.command(
    "export", epilog=examples("lefleet sets export cubes --to cubes.jsonl", "lefleet sets export cubes | head")
)
def export(
    name: Name,
    to: ToOption = Path("-"),
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a set as JSON lines, oldest first: id, SHA-256, bytes, where the file is, what it was.

    The server makes the lines while it sends them, so an export that is cut leaves no file and begins anew. To standard
    output `--json` changes nothing; with `--to FILE` it says what was written.
    """
    with connect(profile) as api, Bar() as bar, api.stream("/sets/{name}/export", 0, "", name=name) as body:
        written = files.save_pieces(to, bar.over(body))
    files.tell(as_json and not files.is_output(to), written)


def _change(name: str, how: str, ids: Iterable[str], profile: str | None, as_json: bool) -> None:
    done = {"added": 0, "removed": 0}
    with connect(profile) as api:
        for some in batched(ids, PAGE):
            changed = api.patch("/sets/{name}/episodes", {how: some}, name=name)
            done = {word: count + changed[word] for word, count in done.items()}
    _told(name, done, as_json)


def _told(name: str, done: Item, as_json: bool) -> None:
    answer(as_json, done, f"{name}: {done['added']} added, {done['removed']} removed")
