"""Guesses are bounded per address and per account, keep nobody out who is at their place, and leave a trace."""

import pytest

from lefleet_server.accounts import service
from lefleet_server.accounts.models import LoginFailure, Role
from lefleet_server.accounts.throttle import ADDRESSES

API = "/api/v1"
PASSWORD = "a long password"
HOME = "198.51.100.1"


@pytest.fixture
async def ada(services):
    async with services.db.transaction() as session:
        await service.put_user(session, "ada", Role.ADMIN, PASSWORD, "test")


@pytest.fixture
def log_in(connect):
    """The status that answers a log-in from an address."""

    async def ask(address: str, password: str, username: str = "ada") -> int:
        async with connect(address) as client:
            body = {"username": username, "password": password}
            return (await client.post(f"{API}/login", json=body)).status_code

    return ask


@pytest.fixture
def failed(services):
    """Failures of an account from these addresses, as many as an address may have: guessing them takes seconds."""

    async def add(addresses: list[str], username: str = "ada") -> None:
        async with services.db.transaction() as session:
            for address in addresses * services.settings.login_attempts:
                session.add(LoginFailure(username=username, address=address))

    return add


@pytest.fixture
def throttled(services, ada, connect):
    """What the audit log says of it, newest first."""

    async def entries() -> list[tuple[str, dict]]:
        async with services.db.transaction() as session:
            code = await service.create_login_code(session, "ada", 60, "test")
        async with connect("192.0.2.250") as client:
            (await client.post(f"{API}/login", json={"code": code})).raise_for_status()
            found = (await client.get(f"{API}/audit", params={"action": "user.throttled"})).json()["items"]
        assert {(each["actor"], each["via"]) for each in found} <= {("server", None)}
        return [(each["subject"], each["detail"]) for each in found]

    return entries


OTHERS = [f"192.0.2.{number}" for number in range(ADDRESSES)]


async def test_a_stranger_at_one_address_keeps_nobody_out(log_in, failed, ada):
    await failed(OTHERS[:1])
    assert await log_in(OTHERS[0], PASSWORD) == 429
    assert await log_in(HOME, PASSWORD) == 204


async def test_guesses_from_many_addresses_are_bounded_but_where_the_owner_is_logged_in(log_in, failed, ada):
    assert await log_in(HOME, PASSWORD) == 204
    await failed(OTHERS)
    assert await log_in("203.0.113.5", PASSWORD) == 429
    assert await log_in(HOME, PASSWORD) == 204
    assert await log_in("203.0.113.5", "a guess", username="eve") == 401


async def test_an_address_that_must_wait_is_noted_once_for_each_span(log_in, failed, throttled):
    await failed(OTHERS[:1])
    await failed(OTHERS[:1], username="my password in the wrong field")
    assert [await log_in(OTHERS[0], "a guess") for _ in range(3)] == [429] * 3
    assert await throttled() == [(f"address:{OTHERS[0]}", {"failed": 20, "accounts": ["ada"]})]


async def test_an_account_that_must_wait_is_noted_and_a_name_that_nobody_has_is_not(log_in, failed, throttled):
    await failed(OTHERS)
    await failed(OTHERS, username="my password in the wrong field")
    assert await log_in(HOME, "a guess") == 429
    assert await log_in(HOME, "a guess", username="my password in the wrong field") == 429
    assert await throttled() == [("user:ada", {"failed": 100, "accounts": ["ada"]})]
