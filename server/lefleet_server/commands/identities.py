"""`lefleet-server users bind` and `unbind`."""

from typing import TYPE_CHECKING, Annotated

import typer

from lefleet_server.commands.common import ConfigOption, JsonOption, fail, settings_of, show, with_database

# Commands import what they alone need.
# ruff: noqa: PLC0415
if TYPE_CHECKING:
    from lefleet_server.db import Database

_CONSOLE = "console"


def bind(
    username: str,
    config: ConfigOption,
    subject: Annotated[str, typer.Option(help="The provider's `sub` of this person, as a refused log-in says it.")],
    as_json: JsonOption = False,
) -> None:
    """Let the person whom the OpenID Connect provider calls SUBJECT log in to the account USERNAME."""
    from lefleet_server.accounts import identities

    settings = settings_of(config)
    if settings.oidc_issuer is None:
        fail("oidc_issuer is not set: there is no log-in by OpenID Connect", status=2)
    issuer = settings.oidc_issuer

    async def work(db: "Database") -> bool:
        async with db.transaction() as session:
            return await identities.bind(session, username, issuer, subject, _CONSOLE)

    changed = with_database(settings, work)
    values = {"username": username, "issuer": issuer, "subject": subject, "changed": changed}
    show(as_json, values, f"{subject} of {issuer} logs in as {username}")


def unbind(username: str, config: ConfigOption, as_json: JsonOption = False) -> None:
    """Let nobody log in to the account USERNAME by OpenID Connect any more; its log-ins end."""
    from lefleet_server.accounts import identities

    async def work(db: "Database") -> int:
        async with db.transaction() as session:
            return await identities.unbind(session, username, _CONSOLE)

    ended = with_database(settings_of(config), work)
    show(as_json, {"username": username, "unbound": ended}, f"{username}: {ended} unbound")
