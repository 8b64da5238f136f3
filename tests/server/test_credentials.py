"""Robots' credentials are renewed without a gap; people's sessions and accounts end at once; guesses are counted."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from lefleet_server.accounts.models import ApiToken, LoginFailure, Role
from lefleet_server.accounts.throttle import network
from lefleet_server.app import create_app
from lefleet_server.audit.models import AuditEntry
from lefleet_server.problems import NotFound
from lefleet_server.robots import credentials
from lefleet_server.robots.models import Robot

API = "/api/v1"
BEAT = {"state": "running"}


async def renew(robot) -> dict[str, str]:
    answer = await robot.http.post(f"{API}/robot/credential")
    return {"Authorization": f"Bearer {answer.raise_for_status().json()['token']}"}


async def beats(client, headers=None) -> int:
    return (await client.post(f"{API}/robot/heartbeat", json=BEAT, headers=headers)).status_code


async def test_the_old_credential_works_until_the_new_one_was_used(robot, connect):
    async with connect() as other:
        new = await renew(robot)
        assert await beats(robot.http) == 200
        assert await beats(other, new) == 200
        assert await beats(robot.http) == 401
        assert await beats(other, new) == 200


async def test_a_credential_that_was_asked_for_again_is_void(robot, connect):
    async with connect() as other:
        lost = await renew(robot)
        new = await renew(robot)
        assert await beats(other, lost) == 401
        assert await asyncio.gather(*(beats(other, new) for _ in range(5))) == [200] * 5


async def test_so_many_credentials_are_given_out_at_once_and_no_more(robot, enrol, connect, services):
    ask = [robot.http.post(f"{API}/robot/credential") for _ in range(credentials.MOST_RENEWALS + 3)]
    answers = await asyncio.gather(*ask)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert [answer.status_code for answer in answers].count(201) == credentials.MOST_RENEWALS and len(refused) == 3
    for answer in refused:
        assert 590 < int(answer.headers["retry-after"]) <= 600
        assert "10 credentials within 10 minutes" in answer.json()["detail"]
    async with services.db.session() as session:
        written = (await session.scalars(select(AuditEntry.action))).all().count("robot.credential-renewed")
        standing = await credentials.standing(session, robot.id)
    assert written == credentials.MOST_RENEWALS and standing.renewed_at
    assert await beats(robot.http) == 200, "the one it has goes on"
    other = await enrol("robot-2")
    assert await renew(other)
    await other.http.aclose()


async def test_a_renewal_of_a_while_ago_is_not_counted(robot, monkeypatch):
    monkeypatch.setattr(credentials, "RENEWALS_SPAN", timedelta(0))
    for _ in range(credentials.MOST_RENEWALS + 1):
        await renew(robot)


async def test_a_revoked_robot_is_out_with_both_its_credentials(robot, connect, person):
    admin = await person(Role.ADMIN)
    new = await renew(robot)
    assert (await admin.delete(f"{API}/robots/robot-1/credential")).json() == {"robot_id": "robot-1", "changed": True}
    async with connect() as other:
        assert await beats(other, new) == 401
    assert await beats(robot.http) == 401


async def test_an_enrolment_ends_a_credential_that_was_to_take_over(robot, connect, enrol):
    new = await renew(robot)
    again = await enrol("robot-1")
    async with connect() as other:
        assert await beats(other, new) == 401
    assert await beats(again.http) == 200


async def test_it_is_known_since_when_a_credential_is_used_and_what_is_to_take_over(robot, services, connect, person):
    async def standing() -> credentials.Standing:
        async with services.db.session() as session:
            return await credentials.standing(session, robot.id)

    fresh = await standing()
    assert fresh.since and not (fresh.used_at or fresh.renewed_at or fresh.code_until)
    await robot.heartbeat()
    used = await standing()
    assert used == replace(fresh, used_at=used.used_at) and used.used_at
    new = await renew(robot)
    given = await standing()
    assert given == replace(used, renewed_at=given.renewed_at) and given.renewed_at > used.used_at
    async with connect() as other:
        assert await beats(other, new) == 200
        taken = await standing()
        assert taken.since > given.renewed_at and taken.used_at >= taken.since and taken.renewed_at is None
        admin = await person(Role.ADMIN)
        await admin.post(f"{API}/robots/{robot.id}/enrolment-code")
        coded = await standing()
        assert coded == replace(taken, code_until=coded.code_until) and coded.code_until > taken.used_at
    await admin.delete(f"{API}/robots/{robot.id}/credential")
    assert await standing() == credentials.Standing(None, None, None, None)
    async with services.db.session() as session:
        with pytest.raises(NotFound, match="no robot 'none'"):
            await credentials.standing(session, "none")


async def test_only_hashes_are_stored(robot, services, person):
    admin = await person(Role.ADMIN)
    new = (await renew(robot))["Authorization"].removeprefix("Bearer ")
    secret = (await admin.post(f"{API}/tokens", json={"name": "t", "scopes": ["read"]})).json()["token"]
    async with services.db.session() as session:
        found = (await session.scalars(select(Robot))).one()
        token = (await session.scalars(select(ApiToken))).one()
        dump = (await session.execute(text("SELECT to_jsonb(t)::text FROM api_tokens t"))).scalar_one()
    assert found.next_token_hash and new.encode() not in found.next_token_hash
    assert secret.startswith(token.prefix) and secret not in dump
    assert secret not in (await admin.get(f"{API}/tokens")).text


async def test_revoked_and_expired_tokens_are_out_at_once(person, connect, services):
    operator = await person()
    made = [(await operator.post(f"{API}/tokens", json={"name": "t", "scopes": ["read"]})).json() for _ in range(2)]
    clients = [connect(headers={"Authorization": f"Bearer {each['token']}"}) for each in made]
    assert [(await client.get(f"{API}/me")).status_code for client in clients] == [200, 200]
    assert (await operator.delete(f"{API}/tokens/{made[0]['id']}")).status_code == 204
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE api_tokens SET expires_at = now() WHERE id = :id"), {"id": made[1]["id"]})
    assert [(await client.get(f"{API}/me")).status_code for client in clients] == [401, 401]


async def test_nobody_but_an_administrator_revokes_anothers_token(person):
    owner, other, admin = await person(), await person(), await person(Role.ADMIN)
    made = (await owner.post(f"{API}/tokens", json={"name": "t", "scopes": ["read"]})).json()
    assert (await other.delete(f"{API}/tokens/{made['id']}")).status_code == 404
    assert (await other.get(f"{API}/tokens", params={"everyones": True})).status_code == 403
    assert (await admin.delete(f"{API}/tokens/{made['id']}")).status_code == 204


async def test_disabling_a_person_ends_sessions_links_and_tokens_at_once(person, connect, anonymous):
    admin, out = await person(Role.ADMIN), await person(Role.OPERATOR, "out")
    secret = (await out.post(f"{API}/tokens", json={"name": "t", "scopes": ["read"]})).json()["token"]
    link = (await admin.post(f"{API}/users/out/login-link")).json()["url"].split("code=")[1]
    assert (await admin.patch(f"{API}/users/out", json={"disabled": True})).json()["disabled_at"]
    async with connect(headers={"Authorization": f"Bearer {secret}"}) as token:
        assert (await token.get(f"{API}/me")).status_code == 401
    assert (await out.get(f"{API}/me")).status_code == 401
    assert (await anonymous.post(f"{API}/login", json={"code": link})).status_code == 401
    assert (await admin.patch(f"{API}/users/out", json={"disabled": False})).json()["disabled_at"] is None
    assert (await out.get(f"{API}/me")).status_code == 401, "its sessions must not come back"


async def test_the_last_administrator_stays(person):
    admin = await person(Role.ADMIN, "last")
    for change in ({"role": "viewer"}, {"disabled": True}):
        assert (await admin.patch(f"{API}/users/last", json=change)).status_code == 409


async def test_a_new_password_needs_the_old_one_and_ends_the_other_sessions(person, connect, anonymous):
    here = await person(Role.VIEWER, "pat")
    there = await person(Role.VIEWER, "pat")
    assert (await here.put(f"{API}/me/password", json={"new": "first password"})).json() == {"tokens": 0}
    assert (await there.get(f"{API}/me")).status_code == 401
    assert (await here.put(f"{API}/me/password", json={"new": "second password"})).status_code == 403
    both = {"old": "first password", "new": "second password"}
    assert (await here.put(f"{API}/me/password", json=both)).json() == {"tokens": 0}
    login = {"username": "pat", "password": "second password"}
    assert (await anonymous.post(f"{API}/login", json=login)).status_code == 204


async def test_a_session_is_ended_by_its_owner_and_nobody_elses_is(person):
    here, there, other = await person(name="kim"), await person(name="kim"), await person(name="lee")
    listed = (await here.get(f"{API}/me/sessions")).json()
    assert len(listed["items"]) == 2
    elsewhere = next(each["id"] for each in listed["items"] if each["id"] != listed["current"])
    assert (await other.delete(f"{API}/me/sessions/{elsewhere}")).status_code == 404
    assert (await here.delete(f"{API}/me/sessions/{elsewhere}")).status_code == 204
    assert (await there.get(f"{API}/me")).status_code == 401
    assert (await here.get(f"{API}/me")).status_code == 200


async def test_guesses_at_once_and_at_two_processes_are_all_counted(connect, settings, services):
    import httpx

    second = create_app(settings, dashboard=False)
    transport = httpx.ASGITransport(second, client=("192.0.2.2", 1))
    guess = {"username": "nobody", "password": "guess"}
    async with connect("192.0.2.2") as one, httpx.AsyncClient(transport=transport, base_url="http://server") as two:
        clients = [one, two] * settings.login_attempts
        answers = await asyncio.gather(*(client.post(f"{API}/login", json=guess) for client in clients))
    await second.state.services.db.close()
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(401) == settings.login_attempts
    assert statuses.count(429) == settings.login_attempts
    async with services.db.session() as session:
        assert len((await session.scalars(select(LoginFailure))).all()) == settings.login_attempts


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
    ],
)
def test_one_address_of_ipv6_is_its_network(address, counted):
    assert network(address) == counted
