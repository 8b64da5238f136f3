"""One's own password, tokens and log-ins. No token may change them, so each asks for a password or a log-in link."""

from pathlib import Path
from typing import Annotated

import typer

from lefleet_server.accounts.roles import Scope
from lefleet_server.cli import profiles
from lefleet_server.cli.failures import usage
from lefleet_server.cli.options import (
    DAYS,
    DaysOption,
    JsonOption,
    PasswordOption,
    ProfileOption,
    ScopesOption,
    UserOption,
    YesOption,
    ask,
    confirm,
    credentials,
    examples,
    logged_in,
    session,
)
from lefleet_server.cli.output import Column, answer, local, note, print_json, say, show_items

tokens = typer.Typer(no_args_is_help=True, help="API tokens, one's own. They need a log-in: no token makes tokens.")
sessions = typer.Typer(no_args_is_help=True, help="One's own log-ins. They need a log-in, too.")

SESSIONS: list[Column] = [
    ("ID", lambda each: str(each["id"])),
    ("SINCE", lambda each: local(each["created_at"])),
    ("SEEN", lambda each: local(each["seen_at"])),
    ("ADDRESS", lambda each: each["address"]),
    ("WITH", lambda each: each["agent"] + (" (this command)" if each.get("current") else "")),
]


def password(
    profile: ProfileOption = None,
    user: UserOption = None,
    password_file: PasswordOption = None,
    new_file: Annotated[
        Path | None,
        typer.Option("--new-password-file", help="File with the new password, `-`: standard input; else asked for."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change your own password; your other log-ins and links end. Who has none yet gives a log-in link in its place."""
    here = profiles.chosen(profile)
    who = credentials(here, user, password_file)
    new = profiles.secret(new_file) if new_file else ask("New password", hidden=True)
    if new_file is None and ask("The same again", hidden=True) != new:
        raise usage("the two differ; nothing was changed")
    with session(here, who) as api:
        working = api.put("/me/password", {"old": who.get("password"), "new": new})["tokens"]
    text = "the password is changed, and your other log-ins and log-in links are ended"
    if working:
        text += f"; your tokens still work ({working}): `lefleet tokens list`, `lefleet tokens revoke ID`"
    answer(as_json, {"changed": True, "tokens": working}, text)


@tokens.command("list", epilog=examples("lefleet tokens list", "lefleet tokens list --everyones --json"))
def list_tokens(
    everyones: Annotated[bool, typer.Option("--everyones", help="Not only one's own: for administrators.")] = False,
    profile: ProfileOption = None,
    user: UserOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the API tokens that are valid, newest first."""
    with logged_in(profile, user, password_file) as api:
        found = api.get("/tokens", {"everyones": everyones})["items"]
    columns: list[Column] = [
        ("ID", lambda token: str(token["id"])),
        ("NAME", lambda token: token["name"]),
        ("OWNER", lambda token: token["owner"]),
        ("BEGINS", lambda token: token["prefix"]),
        ("SCOPES", lambda token: " ".join(token["scopes"])),
        ("EXPIRES", lambda token: local(token["expires_at"])),
        ("USED", lambda token: local(token["used_at"])),
    ]
    show_items(as_json, found, columns, "no tokens")


@tokens.command("create", epilog=examples("lefleet tokens create nightly-export --scope read --days 30"))
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scopes: ScopesOption = None,
    days: DaysOption = DAYS,
    profile: ProfileOption = None,
    user: UserOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API token and print it: this once, the server keeps only its hash."""
    with logged_in(profile, user, password_file) as api:
        made = api.post("/tokens", {"name": name, "scopes": scopes or [Scope.READ], "days": days})
    if as_json:
        print_json(made)
    else:
        note(f"Token {made['id']} may {', '.join(made['scopes'])} until {local(made['expires_at'])}:")
        say(made["token"])


@tokens.command("revoke", epilog=examples("lefleet tokens revoke 7"))
def revoke_token(
    token_id: Annotated[int, typer.Argument(metavar="ID", min=1)],
    profile: ProfileOption = None,
    user: UserOption = None,
    password_file: PasswordOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """End a token at once: one's own, or for administrators anybody's."""
    confirm(f"Revoke token {token_id}?", yes)
    with logged_in(profile, user, password_file) as api:
        api.delete("/tokens/{token_id}", token_id=token_id)
    answer(as_json, {"token_id": token_id, "revoked": True}, f"token {token_id} is revoked")


@sessions.command("list", epilog=examples("lefleet sessions list"))
def list_sessions(
    profile: ProfileOption = None,
    user: UserOption = None,
    password_file: PasswordOption = None,
    as_json: JsonOption = False,
) -> None:
    """List your own log-ins, newest first; the one that asks is this command's."""
    with logged_in(profile, user, password_file) as api:
        found = api.get("/me/sessions")
    items = [{**each, "current": each["id"] == found["current"]} for each in found["items"]]
    show_items(as_json, items, SESSIONS, "no log-ins", ["WITH"])


@sessions.command("end", epilog=examples("lefleet sessions end 12 13", "lefleet sessions end --others"))
def end_sessions(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID", min=1)] = None,
    others: Annotated[bool, typer.Option("--others", help="All of them: this command's own ends by itself.")] = False,
    profile: ProfileOption = None,
    user: UserOption = None,
    password_file: PasswordOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """End log-ins of your own at once."""
    if bool(ids) == others:
        raise usage("ID: name the log-ins, or give --others (one of the two)")
    confirm("End all your other log-ins?" if others else f"End the log-ins {', '.join(map(str, ids or []))}?", yes)
    with logged_in(profile, user, password_file) as api:
        count = api.delete("/me/sessions")["ended"] if others else 0
        for session_id in ids or []:
            api.delete("/me/sessions/{session_id}", session_id=session_id)
            count += 1
    answer(as_json, {"ended": count}, f"{count} log-ins are ended")
