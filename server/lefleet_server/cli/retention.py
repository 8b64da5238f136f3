"""`lefleet retention`: the rules by which episodes are deleted one day."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from lefleet_server.cli import complete
from lefleet_server.cli.client import Api
from lefleet_server.cli.failures import Failure, usage
from lefleet_server.cli.filters import Outcome
from lefleet_server.cli.options import JsonOption, ProfileOption, YesOption, confirm, connect, examples
from lefleet_server.cli.output import Cell, Column, Item, answer, local, note, show, show_items, size

app = typer.Typer(no_args_is_help=True, help="Rules by which episodes are deleted; each begins disabled.")

Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete.rules)]
_SETTINGS = ("older_than_days", "quota_bytes", "outcomes", "robots", "labelled")


@app.command("list", epilog=examples("lefleet retention list"))
def list_rules(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List the rules."""
    columns: list[Column] = [
        ("RULE", lambda rule: rule["name"]),
        ("ENABLED", lambda rule: "yes" if rule["enabled"] else ""),
        ("OLDER THAN", lambda rule: "" if rule["older_than_days"] is None else f"{rule['older_than_days']:g} days"),
        ("BEYOND", lambda rule: "" if rule["quota_bytes"] is None else size(rule["quota_bytes"])),
        ("OUTCOMES", lambda rule: ", ".join(rule["outcomes"]) or "any"),
        ("ROBOTS", lambda rule: ", ".join(rule["robots"]) or "any"),
        ("LABELLED", lambda rule: {True: "only", False: "never", None: "both"}[rule["labelled"]]),
        ("CHANGED", lambda rule: f"{local(rule['changed_at'])} by {rule['changed_by']}"),
    ]
    with connect(profile) as api:
        show_items(as_json, api.get("/retention/rules")["items"], columns, "no rules: nothing is deleted", ["ROBOTS"])


@app.command(
    "set",
    epilog=examples(
        "lefleet retention set old-failures --older-than-days 90 --outcome failure --unlabelled",
        "lefleet retention plan --rule old-failures",
        "lefleet retention enable old-failures",
    ),
)
def set_rule(
    name: Name,
    older_than_days: Annotated[
        float | None, typer.Option(min=0, help="Days since the server received the episode.")
    ] = None,
    quota_bytes: Annotated[
        int | None, typer.Option(min=0, help="What all episodes in the scope may take; the oldest beyond it go.")
    ] = None,
    outcome: Annotated[list[Outcome] | None, typer.Option(help="Only these; again for more.")] = None,
    robot: Annotated[
        list[str] | None, typer.Option(help="Only of these; again for more.", autocompletion=complete.robots)
    ] = None,
    labelled: Annotated[
        bool | None, typer.Option("--labelled/--unlabelled", help="Only what a person judged, or only the others.")
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make or replace a rule. It is disabled until `lefleet retention enable`, so that its plan can be looked at."""
    if older_than_days is None and quota_bytes is None:
        raise usage("--older-than-days, --quota-bytes: give one or both; without, the rule would delete everything")
    rule = {"older_than_days": older_than_days, "quota_bytes": quota_bytes, "labelled": labelled, "robots": robot or []}
    rule |= {"outcomes": [one.value for one in outcome or []], "enabled": False}
    with connect(profile) as api:
        made = api.put("/retention/rules/{name}", rule, name=name)
    answer(as_json, made, f"{name} is set, and disabled: see `lefleet retention plan --rule {name}`, then enable it")


@app.command("enable", epilog=examples("lefleet retention enable old-failures"))
def enable(name: Name, profile: ProfileOption = None, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Let a rule delete, each night where the server has `retention_hour_utc`; asks with what would go now."""
    with connect(profile) as api:
        rule = _rule(api, name)
        would = api.get("/retention/plan", {"rule": name})["total"]
        confirm(f"Enable {name}? It would delete {would['episodes']} episodes ({size(would['bytes'])}) now.", yes)
        _switch(api, rule, True, as_json)


@app.command("disable", epilog=examples("lefleet retention disable old-failures"))
def disable(name: Name, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Let a rule delete nothing more; it stays in the list."""
    with connect(profile) as api:
        _switch(api, _rule(api, name), False, as_json)


@app.command("remove", epilog=examples("lefleet retention remove old-failures"))
def remove(name: Name, profile: ProfileOption = None, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Remove a rule; no episode goes or comes back by that."""
    confirm(f"Remove the rule {name}?", yes)
    with connect(profile) as api:
        api.delete("/retention/rules/{name}", name=name)
    answer(as_json, {"name": name, "removed": True}, f"{name} is removed")


@app.command("plan", epilog=examples("lefleet retention plan", "lefleet retention plan --rule old-failures"))
def plan(
    rule: Annotated[
        list[str] | None,
        typer.Option(help="Only this one, enabled or not; again for more.", autocompletion=complete.rules),
    ] = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the enabled rules would delete now. Deletes nothing."""
    with connect(profile) as api:
        found = api.get("/retention/plan", {"rule": rule or None})
    rows: list[tuple[str, Cell]] = [(name, _count(count)) for name, count in found["rules"].items()]
    rows += [("together", _count(found["total"])), ("held, so they stay", _count(found["held"]))]
    show(as_json, found, rows)
    if not as_json and found["examples"]:
        oldest = found["examples"][0]
        note(f"The oldest: {oldest['episode_id']} ({oldest['rule']}); --json names a hundred.")


@app.command("nights", epilog=examples("lefleet retention nights"))
def nights(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show when the enabled rules delete next by themselves, and what the last such run did."""
    with connect(profile) as api:
        found = api.get("/retention/nights")
    run = found["last"]
    rows: list[tuple[str, Cell]] = [
        ("next run", _next(found["next_at"])),
        ("enabled rules", f"{found['enabled']}" if found["enabled"] else "none: nothing goes"),
        ("last run", "none yet" if run is None else _run(run)),
        ("it refused", run["refused"] if run else ""),
    ]
    show(as_json, found, [(name, cell) for name, cell in rows if cell])


def _next(at: str | None) -> str:
    if at is None:
        return "never: the server's setting retention_hour_utc is not set; `lefleet-server retention --apply` deletes"
    due = datetime.fromisoformat(at) <= datetime.now(UTC)
    return f"as soon as a worker is there; it was due {local(at)}" if due else local(at)


def _run(run: Item) -> str:
    ended = f"ended {local(run['ended_at'])}" if run["ended_at"] else "not ended yet"
    return f"{run['day']}: {_count(run)} deleted, {ended}"


def _rule(api: Api, name: str) -> Item:
    rules: list[Item] = api.get("/retention/rules")["items"]
    found = next((rule for rule in rules if rule["name"] == name), None)
    if found is None:
        raise Failure(f"no rule {name!r}; `lefleet retention list` names them")
    return found


def _switch(api: Api, rule: Item, enabled: bool, as_json: bool) -> None:
    kept: dict[str, Any] = {name: rule[name] for name in _SETTINGS}
    done = api.put("/retention/rules/{name}", kept | {"enabled": enabled}, name=rule["name"])
    answer(as_json, done, f"{rule['name']} is {'enabled' if enabled else 'disabled'}")


def _count(count: Item) -> str:
    return f"{count['episodes']} episodes ({size(count['bytes'])})"
