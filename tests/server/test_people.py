"""Log-in, sessions, roles, and requests that other sites' pages make a browser send."""

import pytest
from sqlalchemy import select, update

from lefleet_server.accounts import service
from lefleet_server.accounts.models import AuditEntry, LoginSession, Role, User
from lefleet_server.db import utc_now

LOGIN = "/api/v1/login"
PEOPLE_ONLY = [
    "/api/v1/me",
    "/api/v1/robots",
    "/api/v1/robots/robot-1",
    "/api/v1/robots/robot-1/cameras/front.jpg",
    "/api/v1/episodes",
    "/api/v1/episodes/0",
    "/api/v1/episodes/0/frames/front/0.jpg",
    "/api/v1/episodes/0/signals",
    "/api/v1/episodes/0/file",
]
ROBOTS_ONLY = [
    ("POST", "/api/v1/robot/heartbeat"),
    ("PUT", "/api/v1/robot/cameras/front"),
    ("POST", "/api/v1/robot/uploads"),
    ("HEAD", "/api/v1/robot/uploads/0"),
    ("PATCH", "/api/v1/robot/uploads/0"),
    ("DELETE", "/api/v1/robot/uploads/0"),
    ("GET", f"/api/v1/robot/receipts/{'0' * 64}"),
    ("POST", "/api/v1/robot/receipts/missing"),
]


@pytest.fixture
async def alice(services):
    async with services.db.transaction() as session:
        await service.put_user(session, "alice", Role.OPERATOR, "a long password", "test")


@pytest.fixture
def code(services, alice):
    async def make(ttl_s: int = 60) -> str:
        async with services.db.transaction() as session:
            return await service.create_login_code(session, "alice", ttl_s, "test")

    return make


@pytest.mark.parametrize("path", PEOPLE_ONLY)
async def test_people_only_without_a_session_or_as_a_robot_is_401(anonymous, robot, path):
    for client in (anonymous, robot.http):
        answer = await client.get(path)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "path"), ROBOTS_ONLY)
async def test_robots_only_without_a_credential_or_as_a_person_is_401(anonymous, operator, method, path):
    body = {"headers": {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}}
    if method == "POST":
        body["json"] = {"state": "running"}
    for client in (anonymous, operator):
        assert (await client.request(method, path, **body)).status_code == 401


async def test_a_password_logs_in_and_logging_out_ends_the_session_everywhere(anonymous, connect, alice):
    answer = await anonymous.post(LOGIN, json={"username": "alice", "password": "a long password"})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert (await anonymous.get("/api/v1/me")).json() == {"username": "alice", "role": "operator"}
    token = anonymous.cookies["lefleet_session"]
    async with connect(headers={"Authorization": f"Bearer {token}"}) as script:
        assert (await script.get("/api/v1/me")).status_code == 200
        assert (await anonymous.post("/api/v1/logout")).status_code == 204
        assert (await script.get("/api/v1/me")).status_code == 401


async def test_wrong_passwords_and_unknown_names_are_told_alike_and_throttled(anonymous, alice, services):
    seen = []
    for number in range(services.settings.login_attempts):
        name = "alice" if number % 2 else "nobody"
        answer = await anonymous.post(LOGIN, json={"username": name, "password": "guess"})
        seen.append((answer.status_code, answer.json()["detail"]))
    assert set(seen) == {(401, "wrong username or password")}
    right = await anonymous.post(LOGIN, json={"username": "alice", "password": "a long password"})
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) > 0


async def test_a_login_code_works_once(anonymous, connect, code):
    secret = await code()
    assert (await anonymous.post(LOGIN, json={"code": secret})).status_code == 204
    async with connect() as second:
        assert (await second.post(LOGIN, json={"code": secret})).status_code == 401
        assert (await second.get("/api/v1/me")).status_code == 401


async def test_an_expired_login_code_does_not_work(anonymous, code):
    assert (await anonymous.post(LOGIN, json={"code": await code(ttl_s=-1)})).status_code == 401


async def test_a_disabled_person_is_out_at_once(anonymous, code, services):
    await anonymous.post(LOGIN, json={"code": await code()})
    async with services.db.transaction() as session:
        await session.execute(update(User).values(disabled_at=utc_now()))
    assert (await anonymous.get("/api/v1/me")).status_code == 401


async def test_an_expired_session_is_out(anonymous, code, services):
    await anonymous.post(LOGIN, json={"code": await code()})
    async with services.db.transaction() as session:
        await session.execute(update(LoginSession).values(expires_at=utc_now()))
    assert (await anonymous.get("/api/v1/me")).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://server"}, 404),
        ({"Origin": "http://server"}, 404),
        ({}, 404),
    ],
)
async def test_a_change_by_cookie_must_come_from_our_own_pages(operator, headers, status):
    answer = await operator.put("/api/v1/episodes/none/label", json={"outcome": "success"}, headers=headers)
    assert answer.status_code == status


async def test_another_site_cannot_log_a_browser_in(anonymous, code):
    secret = await code()
    answer = await anonymous.post(LOGIN, json={"code": secret}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert (await anonymous.post(LOGIN, json={"code": secret})).status_code == 204


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.OPERATOR, 404), (Role.ADMIN, 404)], ids=str)
async def test_labelling_needs_an_operator(person, role, status):
    client = await person(role)
    answer = await client.put("/api/v1/episodes/none/label", json={"outcome": "success"})
    assert answer.status_code == status
    await client.aclose()


async def test_adding_a_person_twice_changes_nothing(services):
    async with services.db.transaction() as session:
        first = await service.put_user(session, "bob", Role.VIEWER, "another password", "test")
        again = await service.put_user(session, "bob", Role.VIEWER, "another password", "test")
        raised = await service.put_user(session, "bob", Role.ADMIN, None, "test")
    assert (first, again, raised) == (service.Ended(), None, service.Ended())


async def test_log_ins_are_audited_and_no_secret_is_stored(anonymous, code, services):
    secret = await code()
    await anonymous.post(LOGIN, json={"code": secret})
    token = anonymous.cookies["lefleet_session"]
    async with services.db.session() as session:
        actions = (await session.scalars(select(AuditEntry.action).order_by(AuditEntry.id))).all()
        stored = (await session.scalars(select(LoginSession.token_hash))).all()
    assert actions == ["user.added", "user.login-code", "user.logged-in"]
    assert token.encode() not in stored
