"""`lefleet login` and what comes of it: profiles, tokens, log-ins, and every way not to get in."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import yaml
from sqlalchemy import update

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import ApiToken, Role
from lefleet_server.db import utc_now

PASSWORD = "a long password"


@pytest.fixture
def account(services):
    """Makes a person with PASSWORD; returns the name."""

    async def make(name: str = "ann", role: Role = Role.OPERATOR, password: str | None = PASSWORD) -> str:
        async with services.db.transaction() as session:
            await accounts.put_user(session, name, role, password, "test")
        return name

    return make


@pytest.fixture
def link(services, served):
    async def make(name: str) -> str:
        async with services.db.transaction() as session:
            return f"{served}/login?code={await accounts.create_login_code(session, name, 60, 'test')}"

    return make


LOGIN = ("--password-file", "-")


async def test_a_password_becomes_a_token_in_a_profile_of_ones_own(served, account, stranger, services):
    await account()
    ann = stranger()
    done = await ann.ok("login", served, "--user", "ann", *LOGIN, "--profile", "lab", given=PASSWORD)
    assert done.out == f"lab: ann (operator) at {served}; it is the current profile\n"
    assert ann.profiles.stat().st_mode & 0o777 == 0o600
    kept = yaml.safe_load(ann.profiles.read_text())
    token = kept["profiles"]["lab"]["token"]
    assert PASSWORD not in ann.profiles.read_text()
    said = (await ann.ok("status", "--json")).item
    assert (said["ready"], said["me"]) == (True, {"username": "ann", "role": "operator"})
    assert "ann (operator)" in (await ann.ok("status")).out

    (made,) = (await ann.ok("tokens", "list", *LOGIN, "--json", given=PASSWORD)).items
    assert made["scopes"] == ["operate", "read"] and token.startswith(made["prefix"])
    (session,) = (await ann.ok("sessions", "list", *LOGIN, "--json", given=PASSWORD)).items
    assert session["current"] and session["agent"].startswith("lefleet/"), "every other log-in has ended by itself"

    refused = await ann("logout", *LOGIN, given=PASSWORD)
    assert (refused.status, "--yes" in refused.err) == (2, True)
    await ann.ok("logout", "--yes", *LOGIN, given=PASSWORD)
    assert yaml.safe_load(ann.profiles.read_text()) == {"profiles": {}}
    again = await stranger(LEFLEET_URL=served, LEFLEET_TOKEN=token)("status")
    assert again.status == 1 and "log in again" in again.err


async def test_a_link_logs_in_whoever_has_no_password_yet(served, account, link, stranger, tmp_path):
    await account("bob", Role.VIEWER, password=None)
    bob = stranger()
    await bob.ok("login", served, "--user", "bob", *LOGIN, given=await link("bob"))
    (tmp_path / "new").write_text(PASSWORD)
    changed = await bob.ok("password", *LOGIN, "--new-password-file", tmp_path / "new", given=await link("bob"))
    assert "your tokens still work (1): `lefleet tokens list`" in changed.out, "it was logged in with one"
    assert (await bob.ok("tokens", "list", *LOGIN, "--json", given=PASSWORD)).item["owner"] == "bob"
    wrong = await bob("password", *LOGIN, "--new-password-file", tmp_path / "new", given="not the password")
    assert wrong.status == 1 and "wrong username or password" in wrong.err


async def test_tokens_are_made_shown_once_and_revoked(served, account, stranger):
    await account()
    ann = stranger()
    await ann.ok("login", served, "--user", "ann", *LOGIN, given=PASSWORD)
    made = (await ann.ok("tokens", "create", "ci", "--days", "3", *LOGIN, "--json", given=PASSWORD)).item
    assert (made["scopes"], made["name"]) == (["read"], "ci")
    ci = stranger(LEFLEET_URL=served, LEFLEET_TOKEN=made["token"])
    assert (await ci.ok("robots", "list", "--json")).out == ""
    denied = await ci("emergency-stop", "--all")
    assert denied.status == 1 and "scope operate" in denied.err
    own = await ci("tokens", "list", *LOGIN, "--user", "ann", given=PASSWORD)
    assert own.status == 0, "its user logs in with a password, whatever the token may"
    await ann.ok("tokens", "revoke", made["id"], "--yes", *LOGIN, given=PASSWORD)
    assert (await ci("robots", "list")).status == 1
    unknown = await ann("tokens", "revoke", made["id"], "--yes", *LOGIN, given=PASSWORD)
    assert unknown.status == 1 and f"no valid token {made['id']}" in unknown.err
    denied = await ann("tokens", "list", "--everyones", *LOGIN, given=PASSWORD)
    assert denied.status == 1 and "role admin" in denied.err


async def test_other_log_ins_are_listed_and_ended(served, account, stranger, link, anonymous):
    await account()
    ann = stranger()
    await ann.ok("login", served, "--user", "ann", *LOGIN, given=PASSWORD)
    answer = await anonymous.post("/api/v1/login", json={"username": "ann", "password": PASSWORD})
    assert answer.is_success
    listed = (await ann.ok("sessions", "list", *LOGIN, "--json", given=PASSWORD)).items
    (other,) = [each["id"] for each in listed if not each["current"]]
    assert (await ann("sessions", "end", *LOGIN, given=PASSWORD)).status == 2
    await ann.ok("sessions", "end", other, "--yes", *LOGIN, given=PASSWORD)
    assert (await anonymous.get("/api/v1/me")).status_code == 401
    assert "0 log-ins" in (await ann.ok("sessions", "end", "--others", "--yes", *LOGIN, given=PASSWORD)).out


async def test_a_wrong_password_leaves_nothing_behind(served, account, stranger):
    await account()
    ann = stranger()
    done = await ann("login", served, "--user", "ann", *LOGIN, given="wrong password")
    assert (done.status, done.err) == (1, "wrong username or password\n")
    assert not ann.profiles.exists()


@pytest.mark.parametrize("how", ["expired", "revoked", "garbage"])
async def test_a_token_that_is_not_valid_says_to_log_in_again(with_token, services, stranger, served, how):
    somebody = await with_token()
    await somebody.ok("robots", "list")
    if how == "garbage":
        somebody = stranger(LEFLEET_URL=served, LEFLEET_TOKEN="lft_no-such-token")
    else:
        now = utc_now()
        change = {"expires_at": now - timedelta(seconds=1)} if how == "expired" else {"revoked_at": now}
        async with services.db.transaction() as session:
            await session.execute(update(ApiToken).values(**change))
    for command in (["robots", "list"], ["episodes", "list", "--json"], ["status"]):
        done = await somebody(*command)
        assert (done.status, done.out) == (1, "")
        assert f"`lefleet login {served}`" in done.err


async def test_profiles_are_chosen_by_option_variable_or_use(served, account, stranger):
    for name in ("ann", "bob"):
        await account(name)
    us = stranger()
    for name in ("ann", "bob"):
        await us.ok("login", served, "--user", name, *LOGIN, "--profile", name, given=PASSWORD)

    async def who(*words: str, **environment: str) -> str:
        return (await us.ok("status", "--json", *words)).item["me"]["username"]

    assert await who() == "bob"
    assert await who("--profile", "ann") == "ann"
    us.environment["LEFLEET_PROFILE"] = "ann"
    assert (await who(), await who("--profile", "bob")) == ("ann", "bob")
    del us.environment["LEFLEET_PROFILE"]
    await us.ok("profiles", "use", "ann")
    assert await who() == "ann"
    listed = {each["profile"]: each["current"] for each in (await us.ok("profiles", "list", "--json")).items}
    assert listed == {"ann": True, "bob": False}
    await us.ok("profiles", "remove", "ann")
    assert await who() == "bob"
    for words in (["profiles", "use", "ann"], ["profiles", "remove", "ann"], ["status", "--profile", "ann"]):
        gone = await us(*words)
        assert gone.status == 2 and "there are: bob" in gone.err


async def test_a_profile_s_token_never_goes_to_an_address_from_the_environment(served, account, stranger):
    await account()
    ann = stranger()
    await ann.ok("login", served, "--user", "ann", *LOGIN, given=PASSWORD)
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ann.environment["LEFLEET_URL"] = f"http://127.0.0.1:{port}"
        done = await ann("robots", "list")
    assert (done.status, heard) == (2, [])
    assert "LEFLEET_TOKEN_FILE" in done.err


@asynccontextmanager
async def tls_in_front(url: str, certificate, key):
    """The server behind a proxy that ends TLS, as Caddy does."""
    target = int(url.rpartition(":")[2])

    async def copy(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            return
        finally:
            writer.close()

    async def serve(reader, writer):
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(copy(reader, back_writer), copy(back_reader, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_fleet_s_own_authority_is_trusted_when_it_is_named_and_no_other(
    served, account, stranger, make_authority, tmp_path
):
    await account()
    authority, another = make_authority(tmp_path / "ca"), make_authority(tmp_path / "another")
    async with tls_in_front(served, *authority.issue("127.0.0.1")) as url:
        for trusted in ([], ["--ca-file", another.pem]):
            ann = stranger()
            done = await ann("login", url, "--user", "ann", *LOGIN, *trusted, given=PASSWORD)
            assert done.status == 4 and "--ca-file" in done.err
            assert not ann.profiles.exists()
        await ann.ok("login", url, "--user", "ann", *LOGIN, "--ca-file", authority.pem, given=PASSWORD)
        assert (await ann.ok("status", "--json")).item["url"] == url


async def test_a_password_that_is_typed_is_not_shown(served, account, stranger):
    await account()
    ann = stranger()
    async with ann.at_terminal("login", served) as terminal:
        await terminal.until(b"User")
        terminal.type("ann")
        await terminal.until(b"log-in link")
        await terminal.type_unseen(PASSWORD)
        await terminal.until(b"current profile")
        assert await terminal.status() == 0
    assert b"ann (operator)" in terminal.shown.replace(b"\r\n", b" ") and PASSWORD.encode() not in terminal.shown
