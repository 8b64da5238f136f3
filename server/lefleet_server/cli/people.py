"""`lefleet people`: accounts as administrators keep them."""

from typing import Annotated, Any

import typer

from lefleet_server.accounts.roles import Role
from lefleet_server.cli import complete
from lefleet_server.cli.options import JsonOption, ProfileOption, YesOption, confirm, connect, examples
from lefleet_server.cli.output import Column, answer, local, note, show_items, word
from lefleet_server.cli.own import SESSIONS

app = typer.Typer(no_args_is_help=True, help="People who may log in, for administrators.")

Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete.people)]


@app.command("list", epilog=examples("lefleet people list"))
def list_people(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List everybody who has an account, by name."""
    with connect(profile) as api:
        found = api.get("/users")["items"]
    # A server of the release before tells less of people.
    columns: list[Column] = [
        ("NAME", lambda user: user["username"]),
        ("ROLE", lambda user: user["role"]),
        ("SINCE", lambda user: local(user["created_at"])),
        ("LOGGED IN", lambda user: local(user["logged_in_at"]) if "logged_in_at" in user else ""),
        ("LOG-INS", lambda user: str(user.get("sessions", ""))),
        ("TOKENS", lambda user: str(user.get("tokens", ""))),
        ("PASSWORD", lambda user: "" if user.get("has_password", True) else "none yet"),
        ("", lambda user: word("") if user["disabled_at"] is None else f"disabled {local(user['disabled_at'])}"),
    ]
    show_items(as_json, found, columns, "nobody")


@app.command("add", epilog=examples("lefleet people add ann --role operator", "lefleet people link ann"))
def add(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    role: Annotated[Role, typer.Option(help="What this person may do.")] = Role.VIEWER,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a person, who gets in by a log-in link (`lefleet people link`) and then chooses a password."""
    with connect(profile) as api:
        _told(as_json, api.post("/users", {"username": name, "role": role.value}))


@app.command("role", epilog=examples("lefleet people role ann admin"))
def change_role(
    name: Name,
    role: Annotated[Role, typer.Argument(help="What this person may do from now on.")],
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a person another role, at once; their tokens follow."""
    _change(name, {"role": role.value}, profile, as_json)


@app.command("disable", epilog=examples("lefleet people disable ann"))
def disable(name: Name, profile: ProfileOption = None, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Keep a person out: log-ins and links end at once, open pages in seconds, tokens do not work any more."""
    confirm(f"Disable {name}? They are out at once, their open pages end within seconds.", yes)
    _change(name, {"disabled": True}, profile, as_json)


@app.command("enable", epilog=examples("lefleet people enable ann"))
def enable(name: Name, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Let a person who was disabled in again."""
    _change(name, {"disabled": False}, profile, as_json)


@app.command("link", epilog=examples("lefleet people link ann"))
def link(name: Name, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Print an address that logs this person in, once."""
    with connect(profile) as api:
        made = api.post("/users/{username}/login-link", username=name)
    if not as_json:
        note(f"For {name} alone, once, within {made['ttl_s'] / 60:.0f} minutes:")
    answer(as_json, made, made["url"])


@app.command("sessions", epilog=examples("lefleet people sessions ann"))
def list_sessions(name: Name, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List a person's log-ins, newest first."""
    with connect(profile) as api:
        found = api.get("/users/{username}/sessions", username=name)["items"]
    show_items(as_json, found, SESSIONS, f"{name} is not logged in")


@app.command(
    "end-sessions", epilog=examples("lefleet people end-sessions ann", "lefleet people end-sessions ann 12 13")
)
def end_sessions(
    name: Name,
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID", min=1, help="Left out: all of them.")] = None,
    profile: ProfileOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """End a person's log-ins at once, all or those with ID."""
    which = f"the log-ins {', '.join(map(str, ids))}" if ids else "all log-ins"
    confirm(f"End {which} of {name}?", yes)
    with connect(profile) as api:
        for session_id in ids or []:
            api.delete("/users/{username}/sessions/{session_id}", username=name, session_id=session_id)
        count = len(ids) if ids else api.delete("/users/{username}/sessions", username=name)["ended"]
    answer(as_json, {"ended": count}, f"{count} log-ins of {name} are ended")


def _change(name: str, changes: dict[str, Any], profile: str | None, as_json: bool) -> None:
    with connect(profile) as api:
        _told(as_json, api.patch("/users/{username}", changes, username=name))


def _told(as_json: bool, user: dict[str, Any]) -> None:
    disabled = "" if user["disabled_at"] is None else ", and disabled"
    answer(as_json, user, f"{user['username']} is {user['role']}{disabled}")
