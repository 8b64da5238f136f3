"""A new password puts out whoever had the old one, and an unlocked screen makes nobody a first one."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from lefleet_server.accounts import identities, service
from lefleet_server.accounts.models import LoginSession, Role
from lefleet_server.accounts.service import FIRST_PASSWORD_WITHIN, Ended
from lefleet_server.db import utc_now

API = "/api/v1"
FIRST, SECOND = "the first password", "the second password"


@pytest.fixture
def put(services):
    async def put_user(role: Role = Role.OPERATOR, password: str | None = None) -> Ended | None:
        async with services.db.transaction() as session:
            return await service.put_user(session, "eve", role, password, "console")

    return put_user


@pytest.fixture
def ways_in(services, anonymous, connect):
    """Every way into eve's account: a session, an unused link, a token. Returns who of them still gets in."""

    async def make():
        async with services.db.transaction() as session:
            codes = [await service.create_login_code(session, "eve", 60, "test") for _ in range(2)]
        (await anonymous.post(f"{API}/login", json={"code": codes[0]})).raise_for_status()
        made = await anonymous.post(f"{API}/tokens", json={"name": "t", "scopes": ["read"]})
        token = {"Authorization": f"Bearer {made.raise_for_status().json()['token']}"}

        async def who() -> set[str]:
            async with connect() as other:
                answers = {
                    "session": await anonymous.get(f"{API}/me"),
                    "token": await other.get(f"{API}/me", headers=token),
                    "link": await other.post(f"{API}/login", json={"code": codes[1]}),
                }
            return {name for name, answer in answers.items() if answer.is_success}

        return who

    return make


async def test_another_password_from_an_administrator_ends_every_way_in(put, ways_in, person):
    await put(password=FIRST)
    who = await ways_in()
    assert await put(password=SECOND) == Ended(sessions=1, links=1, tokens=1)
    assert await who() == set()
    admin = await person(Role.ADMIN)
    entries = (await admin.get(f"{API}/audit", params={"actor": "console"})).json()["items"]
    assert {each["action"] for each in entries} == {
        "user.added",
        "user.changed",
        "user.sessions-ended",
        "token.revoked",
    }
    (changed,) = [each for each in entries if each["action"] == "user.changed"]
    assert changed["detail"]["ended"] == {"sessions": 1, "links": 1, "tokens": 1}


async def test_a_first_password_from_an_administrator_ends_every_way_in(put, ways_in):
    await put()
    who = await ways_in()
    assert await put(password=FIRST) == Ended(sessions=1, links=1, tokens=1)
    assert await who() == set()


async def test_another_role_with_the_same_password_ends_nothing(put, ways_in):
    await put(password=FIRST)
    who = await ways_in()
    assert await put(Role.VIEWER, FIRST) == Ended()
    assert await who() == {"session", "token", "link"}


async def test_ones_own_new_password_ends_unused_links_and_says_that_tokens_work(put, ways_in, anonymous):
    await put(password=FIRST)
    who = await ways_in()
    changed = await anonymous.put(f"{API}/me/password", json={"old": FIRST, "new": SECOND})
    assert changed.json() == {"tokens": 1}
    assert await who() == {"session", "token"}


@pytest.mark.parametrize("by", ["provider", "link"])
async def test_a_first_password_needs_a_log_in_of_the_last_minutes(put, services, anonymous, by):
    await put()

    async def log_in() -> None:
        async with services.db.transaction() as session:
            if by == "provider":
                await identities.bind(session, "eve", "https://id.example.org", "sub-eve", "test")
            code = await service.create_login_code(session, "eve", 60, "test")
        (await anonymous.post(f"{API}/login", json={"code": code})).raise_for_status()

    await log_in()
    before = utc_now() - FIRST_PASSWORD_WITHIN - timedelta(seconds=1)
    async with services.db.transaction() as session:
        await session.execute(update(LoginSession).values(created_at=before))
    late = await anonymous.put(f"{API}/me/password", json={"new": FIRST})
    assert late.status_code == 403
    assert "log in again, then set one within 10 minutes" in late.json()["detail"]
    assert (await anonymous.post(f"{API}/login", json={"username": "eve", "password": FIRST})).status_code == 401
    await log_in()
    assert (await anonymous.put(f"{API}/me/password", json={"new": FIRST})).is_success
