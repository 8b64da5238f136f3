"""Getting in and out, and the profiles that remember where."""

import re
import socket
import sys
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer

from lefleet_server.accounts.roles import Scope
from lefleet_server.cli import complete, fleet, profiles
from lefleet_server.cli.client import Api, Pages
from lefleet_server.cli.failures import Failure, Refused, usage
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
    connect,
    credentials,
    examples,
    logged_in,
    session,
)
from lefleet_server.cli.output import Cell, Column, Item, answer, note, print_json, say, show, show_items, word
from lefleet_server.cli.profiles import Profile, Profiles
from lefleet_server.secret import TOKEN_PREFIX

known = typer.Typer(no_args_is_help=True, help="Profiles: the fleets that `lefleet login` knows here.")


_SCOPES = [Scope.READ, Scope.OPERATE]
_TOKEN = re.compile(re.escape(TOKEN_PREFIX) + r"[A-Za-z0-9_-]{1,200}")


def login(
    url: Annotated[str, typer.Argument(help="The server's address, such as https://fleet.example.org.")],
    user: UserOption = None,
    password_file: PasswordOption = None,
    token: Annotated[
        bool, typer.Option("--token", help="Ask for an API token made on the dashboard, or read it from a pipe.")
    ] = False,
    token_file: Annotated[
        Path | None, typer.Option(help="File with an API token, `-`: standard input; then no password is needed.")
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Authority that signed the server's certificate, PEM.")] = None,
    scopes: ScopesOption = None,
    days: DaysOption = DAYS,
    profile: Annotated[str | None, typer.Option("--profile", help="What to call this fleet; else by its host.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API token (with a password or a log-in link), or take one, and keep it in a profile of your own."""
    place = profiles.place()
    known_here = Profiles.load(place)
    if token + (token_file is not None) + (password_file is not None) > 1:
        raise usage("--token, --token-file, --password-file: give one of them")
    stranger = profiles.make(url, "", ca_file)
    _warn(stranger)
    if token or token_file is not None:
        made = _with_token(stranger, token_file)
    else:
        with session(stranger, credentials(stranger, user, password_file)) as api:
            body = {"name": f"lefleet on {socket.gethostname()}"[:100], "scopes": scopes or _SCOPES, "days": days}
            new = api.post("/tokens", body)
        made = profiles.make(url, new["token"], ca_file, new["owner"], new["id"])
    me = _who(made)
    made = made.model_copy(update={"user": me["username"]})
    name = profile or made.url.partition("://")[2].replace(":", "-").strip("[]")
    try:
        changed = Profiles(current=name, profiles={**known_here.profiles, name: made})
    except ValueError:
        raise usage(f"--profile: {name!r}: letters, digits, `.`, `_` and `-`") from None
    changed.save(place)
    if as_json:
        print_json(
            {"profile": name, "url": made.url, "user": me["username"], "role": me["role"], "token_id": made.token_id}
        )
    else:
        say(f"{name}: {me['username']} ({me['role']}) at {made.url}; it is the current profile")


def logout(
    profile: ProfileOption = None,
    user: UserOption = None,
    password_file: PasswordOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Revoke the profile's token, which needs a log-in, and forget the profile."""
    place = profiles.place()
    known_here = Profiles.load(place)
    name = profile or known_here.current
    found = profiles.chosen(name)
    if found.token_id is None:
        raise usage(
            f"{name}: its token was not made here; revoke it where it was, and `lefleet profiles remove {name}`"
        )
    confirm(f"Revoke the token of {name} and forget the profile?", yes)
    with logged_in(name, user, password_file) as api:
        api.delete("/tokens/{token_id}", token_id=found.token_id)
    known_here.without(str(name)).save(place)
    answer(
        as_json, {"profile": name, "revoked": found.token_id}, f"{name}: its token is revoked, the profile forgotten"
    )


def status(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Show whether the server can work, who you are there, and how the robots are. Exit status 1: it is not ready."""
    with connect(profile) as api:
        ready, me, robots = api.ready(), api.get("/me"), list(Pages(api, "/robots", {}, None))
    counts = Counter(robot["state"] for robot in robots)
    health = Counter(robot["health"] for robot in robots if "health" in robot)
    value = {"url": api.profile.url, "ready": ready["ready"], "checks": ready["checks"], "me": me}
    value |= {"robots": counts, "health": health}
    rows: list[tuple[str, Cell]] = [
        ("server", api.profile.url),
        ("ready", word("yes" if ready["ready"] else "no")),
        *((name, word(found)) for name, found in ready["checks"].items()),
        ("you", f"{me['username']} ({me['role']})"),
        ("robots", ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none"),
        ("health", ", ".join(f"{health[name]} {name}" for name in fleet.HEALTH if health[name])),
    ]
    show(as_json, value, [(name, cell) for name, cell in rows if cell])
    if not ready["ready"]:
        raise typer.Exit(1)


@known.command("list", epilog=examples("lefleet profiles list"))
def list_profiles(as_json: JsonOption = False) -> None:
    """List the profiles that are known here."""
    found = Profiles.load(profiles.place())
    items = [
        {"profile": name, "url": each.url, "user": each.user, "current": name == found.current}
        for name, each in found.profiles.items()
    ]
    columns: list[Column] = [
        ("PROFILE", lambda item: item["profile"]),
        ("", lambda item: "current" if item["current"] else ""),
        ("USER", lambda item: item["user"]),
        ("SERVER", lambda item: item["url"]),
    ]
    show_items(as_json, items, columns, "no profiles; `lefleet login https://fleet.example.org` makes one")


Named = Annotated[str, typer.Argument(metavar="PROFILE", autocompletion=complete.profile_names)]


@known.command("use", epilog=examples("lefleet profiles use lab"))
def use_profile(name: Named, as_json: JsonOption = False) -> None:
    """Make PROFILE the one that commands use when nothing names another."""
    found = Profiles.load(profiles.place())
    found.named(name)
    found.model_copy(update={"current": name}).save(profiles.place())
    answer(as_json, {"profile": name, "current": True}, f"{name} is the current profile")


@known.command("remove", epilog=examples("lefleet profiles remove lab"))
def remove_profile(name: Named, as_json: JsonOption = False) -> None:
    """Forget PROFILE here. Its token stays valid: `lefleet logout` revokes it, too."""
    found = Profiles.load(profiles.place())
    found.without(name).save(profiles.place())
    answer(as_json, {"profile": name, "removed": True}, f"{name} is forgotten")


def _with_token(stranger: Profile, file: Path | None) -> Profile:
    """The profile with a token that was made elsewhere: in the file, or else typed or piped in."""
    if file is None and sys.stdin.isatty():
        given = ask("API token", hidden=True).strip()
    else:
        given = profiles.secret(file or Path("-"))
    if not _TOKEN.fullmatch(given):
        raise usage(
            f"this is no API token: one begins with {TOKEN_PREFIX} and has letters, digits, `_` and `-`; "
            f"make one at {stranger.url}/tokens"
        )
    return stranger.model_copy(update={"token": given})


def _who(profile: Profile) -> Item:
    with Api(profile) as api:
        try:
            me: Item = api.get("/me")
        except Refused as refused:
            if refused.code != HTTPStatus.UNAUTHORIZED:
                raise
            raise Failure(
                f"{profile.url}: this token is not valid (any more): it expired, was revoked, or is another server's, "
                f"and nothing was kept; make one at {profile.url}/tokens"
            ) from refused
    return me


def _warn(profile: Profile) -> None:
    if profile.is_plain:
        note(f"{profile.url}: is not encrypted: whoever listens on the network reads password and token")
