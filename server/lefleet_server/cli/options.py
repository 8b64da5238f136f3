"""What the commands have in common: their options, how they ask, and how they tell that some of many failed."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import typer

from lefleet_server.accounts.roles import Scope
from lefleet_server.cli import complete, output, profiles
from lefleet_server.cli.client import Api
from lefleet_server.cli.failures import Failure, Status, Unreachable, usage

_AGO = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EPISODE = re.compile(r"[0-9a-f]{32}")


def connect(profile: str | None, timeout_s: float = 30.0) -> Api:
    """The server of this profile, or of what the environment says; use it in a `with`."""
    return Api(profiles.chosen(profile), timeout_s)


@contextmanager
def logged_in(profile: str | None, user: str | None, password_file: Path | None) -> Iterator[Api]:
    """For what no token may do: a log-in of its own, ended with the block."""
    known = profiles.chosen(profile)
    with session(known, credentials(known, user, password_file)) as api:
        yield api


def credentials(profile: profiles.Profile, user: str | None, password_file: Path | None) -> dict[str, str]:
    """What logs a person in: username and password, or the code of a log-in link given in the password's place."""
    who = user or os.environ.get("LEFLEET_USER") or profile.user or ask("User")
    file = password_file or (Path(named) if (named := os.environ.get("LEFLEET_PASSWORD_FILE")) else None)
    words = profiles.secret(file) if file else ask(f"Password of {who}, or a log-in link", hidden=True)
    code = parse_qs(urlsplit(words).query).get("code") if words.startswith(("http://", "https://")) else None
    return {"code": code[0]} if code else {"username": who, "password": words}


@contextmanager
def session(profile: profiles.Profile, credentials: dict[str, str]) -> Iterator[Api]:
    """A log-in that ends with the block."""
    with Api(profile.model_copy(update={"token": ""})) as stranger:
        token = stranger.session(credentials)
    with Api(profile.model_copy(update={"token": token})) as api:
        try:
            yield api
        finally:
            api.post("/logout")


def ask(question: str, *, hidden: bool = False) -> str:
    """A person's answer; Failure where nobody can be asked."""
    if not sys.stdin.isatty():
        option = "--password-file" if hidden else "--user"
        raise usage(f"{question}: nobody can be asked here; give {option}")
    return str(typer.prompt(question, hide_input=hidden, err=True))


def confirm(question: str, yes: bool) -> None:
    """Goes on when the person says so, or `--yes` did."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise usage(f"{question} Nobody can be asked here; give --yes")
    typer.confirm(output.clean(question), abort=True, err=True)


def each[T](things: Iterable[T], work: Callable[[T], None], name: Callable[[T], str] = str) -> None:
    """Does it for every one of them, tells which failed, and ends with the exit status of the whole."""
    done, failed = 0, []
    for thing in things:
        try:
            work(thing)
            done += 1
        except Unreachable:
            raise
        except Failure as error:
            failed.append(error)
            output.complain(f"{name(thing)}: {error.message}")
    ended(done, len(failed))


def ended(done: int, failed: int) -> None:
    """Ends the command unless all went well."""
    if failed:
        raise typer.Exit(Status.PARTLY if done else Status.FAILED)


def moment(text: str | None) -> str | None:
    """A time for the API: ISO 8601, without a zone in this machine's, or `2h` for two hours ago."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return (datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).isoformat()
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.astimezone()).isoformat()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r}: write 2026-11-01, 2026-11-01T13:30 or 2h (ago; s, m, h, d, w)") from None


def episode_ids(words: Iterable[str]) -> list[str]:
    """What was named, each once; `-` stands for standard input, one a line."""
    found: dict[str, None] = {}
    for given in words:
        for text in sys.stdin.read().split() if given == "-" else [given]:
            if not _EPISODE.fullmatch(text):
                raise usage(
                    f"ID: {text!r}: an episode has 32 letters of 0-9 and a-f; `lefleet episodes list --ids` has them"
                )
            found[text] = None
    return list(found)


def examples(*lines: str) -> str:
    """A command's `--help` ends with them."""
    return "\n\n".join(["Examples:", *lines])


ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="Fleet to use.", autocompletion=complete.profile_names),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON; of a list, one object a line.")]
ToOption = Annotated[Path, typer.Option("--to", "-o", dir_okay=False, help="File to write; `-`: standard output.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="Most of them.")]
SinceOption = Annotated[str | None, typer.Option(help="From then on: 2026-11-01, 2026-11-01T13:30, or 2h ago.")]
UntilOption = Annotated[str | None, typer.Option(help="Before then.")]
UserOption = Annotated[str | None, typer.Option("--user", help="Who logs in; else LEFLEET_USER or the profile's.")]
PasswordOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file", help="File with the password or a log-in link, `-`: standard input; else asked for."
    ),
]
Robot = Annotated[str, typer.Argument(metavar="ROBOT", autocompletion=complete.robots)]
Robots = Annotated[list[str] | None, typer.Argument(metavar="ROBOT", autocompletion=complete.robots)]
DAYS = 90
DaysOption = Annotated[int, typer.Option(min=1, max=366, help="Days until the token expires.")]
ScopesOption = Annotated[
    list[Scope] | None, typer.Option("--scope", help="What the token may do; again for more. Never more than you may.")
]
