"""`lefleet login --token` at a server where people log in by OpenID Connect, and have no password."""

from datetime import timedelta

import pytest
import yaml
from sqlalchemy import update

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import ApiToken, Role, User
from lefleet_server.db import utc_now


@pytest.fixture(scope="module")
def server_settings(server_settings: dict) -> dict:
    """No provider answers there: what is tested here needs none."""
    oidc = {"oidc_issuer": "http://127.0.0.1:9/realm", "oidc_name": "Lab account", "oidc_client_id": "lefleet"}
    return server_settings | oidc | {"public_url": "http://fleet.example.org"}


@pytest.fixture
def token(person):
    """Makes a token as the dashboard's page does; returns it."""

    async def make(name: str = "ann", scopes: tuple[str, ...] = ("read", "operate")) -> str:
        client = await person(Role.OPERATOR, name)
        made = await client.post("/api/v1/tokens", json={"name": "laptop", "scopes": scopes})
        await client.aclose()
        return made.raise_for_status().json()["token"]

    return make


async def test_a_token_from_a_pipe_is_kept_as_one_that_was_made_here(served, token, stranger):
    secret = await token()
    ann = stranger()
    done = await ann.ok("login", served, "--token", "--profile", "lab", given=secret + "\n")
    assert done.out == f"lab: ann (operator) at {served}; it is the current profile\n"
    assert ann.profiles.stat().st_mode & 0o777 == 0o600
    kept = yaml.safe_load(ann.profiles.read_text())["profiles"]["lab"]
    assert (kept["token"], kept["user"]) == (secret, "ann")
    assert secret not in done.out + done.err
    assert (await ann.ok("status", "--json")).item["me"]["username"] == "ann"
    refused = await ann("logout", "--yes")
    assert refused.status == 2 and "was not made here" in refused.err


async def test_a_token_that_is_typed_is_not_shown(served, token, stranger):
    secret = await token()
    ann = stranger()
    async with ann.at_terminal("login", served, "--token") as terminal:
        await terminal.until(b"API token")
        await terminal.type_unseen(secret)
        await terminal.until(b"current profile")
        assert await terminal.status() == 0
    assert secret.encode() not in terminal.shown
    assert secret in ann.profiles.read_text()


@pytest.mark.parametrize("how", ["expired", "revoked", "unknown", "disabled"])
async def test_a_token_that_is_not_valid_is_refused_and_not_kept(served, token, stranger, services, how):
    secret = await token()
    now = utc_now()
    async with services.db.transaction() as session:
        if how == "expired":
            await session.execute(update(ApiToken).values(expires_at=now - timedelta(seconds=1)))
        if how == "revoked":
            await session.execute(update(ApiToken).values(revoked_at=now))
        if how == "disabled":
            await session.execute(update(User).values(disabled_at=now))
    ann = stranger()
    given = "lft_nobody-ever-made-this-one" if how == "unknown" else secret
    done = await ann("login", served, "--token", given=given)
    assert (done.status, done.out) == (1, "")
    assert "is not valid" in done.err and f"make one at {served}/tokens" in done.err
    assert given not in done.err
    assert not ann.profiles.exists()


@pytest.mark.parametrize("given", ["", "hunter2", "lfu_a-session", "lft_ä", "lft_one\nlft_two"])
async def test_what_is_no_token_is_not_sent(served, stranger, given):
    ann = stranger()
    done = await ann("login", served, "--token", given=given)
    assert done.status == 2 and ("must hold one line" in done.err or f"make one at {served}/tokens" in done.err)
    assert not given or given not in done.err
    assert not ann.profiles.exists()


async def test_a_token_without_the_scope_to_read_is_refused(served, token, stranger):
    ann = stranger()
    done = await ann("login", served, "--token", given=await token("ann", ("metrics",)))
    assert done.status == 1 and "scope read" in done.err
    assert not ann.profiles.exists()


async def test_one_way_to_get_in_is_given(served, stranger, tmp_path):
    for both in (["--token", "--token-file", "-"], ["--token", "--password-file", "-"]):
        done = await stranger()("login", served, *both, given="lft_x")
        assert (done.status, done.err) == (2, "--token, --token-file, --password-file: give one of them\n")


@pytest.mark.parametrize("known", [True, False])
async def test_a_refused_password_names_the_other_way_and_its_address(served, services, stranger, known):
    if known:
        async with services.db.transaction() as session:
            await accounts.put_user(session, "ann", Role.OPERATOR, None, "test")
    ann = stranger()
    done = await ann("login", served, "--user", "ann", "--password-file", "-", given="no password of hers")
    assert (done.status, done.err) == (
        1,
        "wrong username or password; whoever logs in with Lab account has none here and does so at "
        "http://fleet.example.org/login; `lefleet login --token` takes a token that was made at "
        "http://fleet.example.org/tokens\n",
    )
