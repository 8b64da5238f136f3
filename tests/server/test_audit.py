"""The audit log: every change leaves an entry that nobody can alter and that holds no secret."""

import json

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from lefleet_server.accounts.models import Role
from lefleet_server.audit.models import AuditEntry
from lefleet_server.jobs.models import Job

API = "/api/v1"
# Changes without an entry, each with its reason.
UNAUDITED = {
    f"POST {API}/robot/heartbeat": "telemetry, every few seconds: it replaces what the robot said before",
    f"PUT {API}/robot/cameras/{{name}}": "telemetry, every few seconds",
    f"POST {API}/robot/receipts/missing": "a question, with a body",
    f"POST {API}/robot/uploads": "bytes on their way: the episode's row is the record of what was stored",
    f"PATCH {API}/robot/uploads/{{upload_id}}": "as above",
}
ESTOP = f"{API}/robots/robot-9/estop"
VERDICT = f"{API}/robots/{{robot_id}}/verdict"
TUS = {"Tus-Resumable": "1.0.0"}
RUNS = {"orders": {"reboot": 0}, "state": "running", "episode_id": "a1" * 16}


@pytest.fixture
async def admin(person):
    client = await person(Role.ADMIN, "root-admin")
    yield client
    await client.aclose()


async def newest(services) -> int:
    async with services.db.session() as session:
        return await session.scalar(select(func.max(AuditEntry.id))) or 0


async def everything(services, admin, enrol, connect, robot, episode_file):
    """Makes each audited change once; yields its route, the answer, and the id of the newest entry before it."""
    steps = iter(STEPS)
    secrets: list[str] = []
    path = episode_file(robot_id="robot-1")
    (await robot.upload(path)).raise_for_status()
    begun = await robot.announce(b"bytes", "b2" * 16)
    ids = {"episode": path.stem, "robot": "robot-1", "upload": begun.headers["location"]}
    for method, route, make in steps:
        if route == f"{API}/jobs/retry":
            async with services.db.transaction() as session:
                await session.execute(update(Job).values(state="dead"))
        before = await newest(services)
        url, options = make(ids)
        client = robot.http if route.startswith(f"{API}/robot/") else admin
        if route in {VERDICT, f"{API}/robots/{{robot_id}}/reboot"}:
            (await robot.http.post(f"{API}/robot/heartbeat", json=RUNS)).raise_for_status()
        if route in {f"{API}/login", f"{API}/robots/enrol"}:
            client = connect()
        answer = await client.request(method, url, **options)
        assert answer.is_success, f"{method} {url}: {answer.text}"
        told = answer.json() if answer.content else {}
        ids |= {name: told[name] for name in ("id", "code", "number") if name in told}
        if "url" in told:
            ids["link"] = told["url"].split("code=")[1]
        secrets += [str(told[name]) for name in ("token", "code") if name in told] + [ids.get("link", "")]
        if route == f"{API}/login":
            secrets.append(client.cookies["lefleet_session"])
            listed = (await admin.get(f"{API}/users/eve/sessions")).json()["items"]
            ids["session"] = listed[0]["id"]
        yield f"{method} {route}", before, secrets


PASSWORD = "a secret nobody may see"
VIEW = {"page": "fleet", "name": "Bad ones"}
STEPS = [
    ("POST", f"{API}/users", lambda _: (f"{API}/users", {"json": {"username": "eve", "role": "viewer"}})),
    ("PATCH", f"{API}/users/{{username}}", lambda _: (f"{API}/users/eve", {"json": {"role": "operator"}})),
    ("POST", f"{API}/users/{{username}}/login-link", lambda _: (f"{API}/users/eve/login-link", {})),
    ("POST", f"{API}/login", lambda ids: (f"{API}/login", {"json": {"code": ids["link"]}})),
    (
        "DELETE",
        f"{API}/users/{{username}}/sessions/{{session_id}}",
        lambda ids: (f"{API}/users/eve/sessions/{ids['session']}", {}),
    ),
    ("DELETE", f"{API}/users/{{username}}/sessions", lambda _: (f"{API}/users/eve/sessions", {})),
    ("POST", f"{API}/tokens", lambda _: (f"{API}/tokens", {"json": {"name": "ci", "scopes": ["read"]}})),
    ("DELETE", f"{API}/tokens/{{token_id}}", lambda ids: (f"{API}/tokens/{ids['id']}", {})),
    ("PUT", f"{API}/me/password", lambda _: (f"{API}/me/password", {"json": {"new": PASSWORD}})),
    ("DELETE", f"{API}/me/sessions", lambda _: (f"{API}/me/sessions", {})),
    ("PUT", f"{API}/me/views", lambda _: (f"{API}/me/views", {"json": VIEW | {"query": "health=bad"}})),
    ("DELETE", f"{API}/me/views", lambda _: (f"{API}/me/views", {"params": VIEW})),
    ("POST", f"{API}/robots/{{robot_id}}/enrolment-code", lambda _: (f"{API}/robots/robot-9/enrolment-code", {})),
    (
        "POST",
        f"{API}/robots/enrol",
        lambda ids: (
            f"{API}/robots/enrol",
            {"json": {"code": ids["code"], "robot_id": "robot-9", "agent_version": "0.1.0"}},
        ),
    ),
    ("PUT", f"{API}/robots/{{robot_id}}/estop", lambda _: (ESTOP, {})),
    ("DELETE", f"{API}/robots/{{robot_id}}/estop", lambda ids: (ESTOP, {"params": {"number": ids["number"]}})),
    (
        "PUT",
        f"{API}/robots/{{robot_id}}/notes",
        lambda _: (f"{API}/robots/robot-9/notes", {"json": {"text": "Its elbow slips.", "version": 0}}),
    ),
    ("PUT", f"{API}/estop", lambda _: (f"{API}/estop", {})),
    ("PUT", f"{API}/robots/{{robot_id}}/rest", lambda _: (f"{API}/robots/robot-1/rest", {})),
    ("DELETE", f"{API}/robots/{{robot_id}}/rest", lambda _: (f"{API}/robots/robot-1/rest", {})),
    ("POST", f"{API}/robots/{{robot_id}}/reboot", lambda _: (f"{API}/robots/robot-1/reboot", {})),
    (
        "PUT",
        f"{API}/robots/{{robot_id}}/task",
        lambda _: (f"{API}/robots/robot-1/task", {"json": {"text": "Sort the bolts"}}),
    ),
    (
        "PUT",
        VERDICT,
        lambda _: (f"{API}/robots/robot-1/verdict", {"json": {"episode_id": RUNS["episode_id"], "word": "success"}}),
    ),
    (
        "PUT",
        f"{API}/episodes/{{episode_id}}/label",
        lambda ids: (f"{API}/episodes/{ids['episode']}/label", {"json": {"outcome": "failure"}}),
    ),
    (
        "POST",
        f"{API}/episodes/{{episode_id}}/analysis",
        lambda ids: (f"{API}/episodes/{ids['episode']}/analysis", {}),
    ),
    ("POST", f"{API}/jobs/retry", lambda _: (f"{API}/jobs/retry", {"json": {}})),
    *(
        (method, f"{API}/{what}s/{{{what}_id}}/hold", lambda ids, p=what, o=options: (f"{API}/{p}s/{ids[p]}/hold", o))
        for what in ("episode", "robot")
        for method, options in (("PUT", {"json": {"reason": "a court asks"}}), ("DELETE", {}))
    ),
    (
        "PUT",
        f"{API}/retention/rules/{{name}}",
        lambda _: (f"{API}/retention/rules/old", {"json": {"older_than_days": 90}}),
    ),
    ("DELETE", f"{API}/retention/rules/{{name}}", lambda _: (f"{API}/retention/rules/old", {})),
    (
        "PATCH",
        f"{API}/episodes",
        lambda ids: (f"{API}/episodes", {"json": {"labels": [{"id": ids["episode"], "note": "it slipped"}]}}),
    ),
    ("POST", f"{API}/sets", lambda _: (f"{API}/sets", {"json": {"name": "good"}})),
    (
        "POST",
        f"{API}/sets/{{name}}/episodes/matching",
        lambda _: (f"{API}/sets/good/episodes/matching", {"params": {"robot": "robot-1"}}),
    ),
    (
        "PATCH",
        f"{API}/sets/{{name}}/episodes",
        lambda ids: (f"{API}/sets/good/episodes", {"json": {"remove": [ids["episode"]]}}),
    ),
    (
        "PATCH",
        f"{API}/sets/{{name}}/episodes",
        lambda ids: (f"{API}/sets/good/episodes", {"json": {"add": [ids["episode"]]}}),
    ),
    (
        "DELETE",
        f"{API}/sets/{{name}}/episodes/matching",
        lambda _: (f"{API}/sets/good/episodes/matching", {"params": {"robot": "robot-1"}}),
    ),
    ("DELETE", f"{API}/sets/{{name}}", lambda _: (f"{API}/sets/good", {})),
    (
        "DELETE",
        f"{API}/episodes/{{episode_id}}",
        lambda ids: (f"{API}/episodes/{ids['episode']}", {"params": {"reason": "a face is in it"}}),
    ),
    ("DELETE", f"{API}/robots/{{robot_id}}/credential", lambda _: (f"{API}/robots/robot-9/credential", {})),
    ("DELETE", f"{API}/robot/uploads/{{upload_id}}", lambda ids: (ids["upload"], {"headers": TUS})),
    ("POST", f"{API}/robot/credential", lambda _: (f"{API}/robot/credential", {})),
    ("POST", f"{API}/logout", lambda _: (f"{API}/logout", {})),
]
# A session can be ended by its owner too; its code is that of the administrator's route.
ELSEWHERE = {f"DELETE {API}/me/sessions/{{session_id}}"}


async def test_every_change_leaves_an_entry_and_no_entry_holds_a_secret(
    app, services, admin, enrol, connect, robot, episode_file
):
    document = app.openapi()["paths"]
    changing = {
        f"{method.upper()} {path}"
        for path, item in document.items()
        for method in item
        if method in {"post", "put", "patch", "delete"}
    }
    done, secrets = set(), []
    async for route, before, seen in everything(services, admin, enrol, connect, robot, episode_file):
        assert await newest(services) > before, f"{route} left no entry in the audit log"
        done.add(route)
        secrets = seen
    assert done | set(UNAUDITED) | ELSEWHERE == changing
    async with services.db.session() as session:
        rows = (await session.execute(text("SELECT to_jsonb(audit_log)::text FROM audit_log"))).scalars().all()
        dump = "\n".join(rows)
        stored = (await session.execute(text("SELECT to_jsonb(u)::text FROM users u"))).scalars().all()
    found = {secret for secret in [*filter(None, secrets), PASSWORD] if secret in dump}
    assert len(set(filter(None, secrets))) >= 5
    assert found == set()
    assert "argon2" not in dump
    assert all(json.loads(user)["password_hash"] in (None, "") or "$argon2id$" in user for user in stored)


async def test_an_entry_says_who_from_where_and_in_which_request(admin, services, connect):
    made = (await admin.post(f"{API}/tokens", json={"name": "t", "scopes": ["operate"]})).json()
    async with connect("192.0.2.9", headers={"Authorization": f"Bearer {made['token']}"}) as client:
        answer = await client.put(f"{API}/estop")  # no robot: nothing changed, so no entry
        assert answer.json() == {"robots": []}
    made = (await admin.post(f"{API}/tokens", json={"name": "a", "scopes": ["admin"]})).json()
    async with connect("192.0.2.9", headers={"Authorization": f"Bearer {made['token']}"}) as client:
        answer = await client.patch(f"{API}/users/root-admin", json={"role": "admin"})
        answer = await client.post(f"{API}/users", json={"username": "zoe"})
    entry = (await admin.get(f"{API}/audit", params={"subject": "user:zoe"})).json()["items"][0]
    assert (entry["actor"], entry["via"], entry["address"]) == (
        "user:root-admin",
        f"token:{made['prefix']}",
        "192.0.2.9",
    )
    assert entry["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log"],
)
@pytest.mark.parametrize("role", ["origin", "replica"])
async def test_the_database_refuses_to_change_the_log(admin, services, statement, role):
    with pytest.raises(DBAPIError, match="append-only"):
        async with services.db.transaction() as session:
            await session.execute(text(f"SET LOCAL session_replication_role = {role}"))
            await session.execute(text(statement))
    assert (await admin.get(f"{API}/audit")).json()["items"]


async def test_pages_of_the_log_neither_repeat_nor_hide(admin):
    for number in range(7):
        await admin.post(f"{API}/users", json={"username": f"user-{number}"})
    seen, cursor = [], {}
    while True:
        page = (await admin.get(f"{API}/audit", params={"action": "user", "limit": 3, **cursor})).json()
        seen += [entry["id"] for entry in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) >= 8
    assert (await admin.get(f"{API}/audit", params={"action": "use"})).json()["items"] == []
