"""Who may do what: every route of the application, tried by everybody. A route that is not in the table fails."""

import asyncio

import pytest

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import Role

API = "/api/v1"
# What each route needs: nothing (open), a robot's credential, a log-in (which no token replaces), or a role.
ACCESS = {
    "open": [
        f"POST {API}/login",
        f"POST {API}/logout",
        f"GET {API}/login/oidc",  # the provider decides
        f"GET {API}/login/oidc/callback",
        f"POST {API}/robots/enrol",  # the code in its body decides
        f"OPTIONS {API}/robot/uploads",
        "GET /healthz",
        "GET /readyz",
    ],
    "metrics": [f"GET {API}/metrics/targets", f"GET {API}/metrics/robot", "GET /metrics"],
    "robot": [
        f"POST {API}/robot/heartbeat",
        f"POST {API}/robot/credential",
        f"PUT {API}/robot/cameras/{{name}}",
        f"GET {API}/robot/wishes",
        f"GET {API}/robot/receipts/{{sha256}}",
        f"POST {API}/robot/receipts/missing",
        f"POST {API}/robot/uploads",
        f"HEAD {API}/robot/uploads/{{upload_id}}",
        f"PATCH {API}/robot/uploads/{{upload_id}}",
        f"DELETE {API}/robot/uploads/{{upload_id}}",
    ],
    "login": [
        f"PUT {API}/me/password",
        f"GET {API}/me/sessions",
        f"DELETE {API}/me/sessions",
        f"DELETE {API}/me/sessions/{{session_id}}",
        f"GET {API}/tokens",
        f"POST {API}/tokens",
        f"DELETE {API}/tokens/{{token_id}}",
    ],
    "viewer": [
        f"GET {API}/me",
        f"GET {API}/me/views",
        f"PUT {API}/me/views",
        f"DELETE {API}/me/views",
        f"GET {API}/robots",
        f"GET {API}/robots/{{robot_id}}",
        f"GET {API}/robots/{{robot_id}}/cameras/{{name}}.jpg",
        f"GET {API}/robots/{{robot_id}}/notes",
        f"GET {API}/robots/{{robot_id}}/changes",
        f"GET {API}/robots/{{robot_id}}/events",
        f"GET {API}/episodes",
        f"GET {API}/policies",
        f"GET {API}/episodes/{{episode_id}}",
        f"GET {API}/comparison",
        f"GET {API}/sets",
        f"GET {API}/sets/{{name}}",
        f"GET {API}/sets/{{name}}/export",
        f"GET {API}/episodes/{{episode_id}}/frames/{{camera}}/{{index}}.jpg",
        f"GET {API}/episodes/{{episode_id}}/analysis",
        f"GET {API}/episodes/{{episode_id}}/signals",
        f"GET {API}/episodes/{{episode_id}}/file",
        f"GET {API}/jobs",
        f"GET {API}/storage",
        f"GET {API}/holds",
        f"GET {API}/episodes/{{episode_id}}/previews",
        f"GET {API}/episodes/{{episode_id}}/previews/{{camera}}/video.mp4",
        f"GET {API}/episodes/{{episode_id}}/previews/{{camera}}/{{which}}.jpg",
        f"GET {API}/episodes/{{episode_id}}/export.{{kind}}",
    ],
    "operator": [
        f"PUT {API}/robots/{{robot_id}}/estop",
        f"DELETE {API}/robots/{{robot_id}}/estop",
        f"PUT {API}/estop",
        f"PUT {API}/robots/{{robot_id}}/verdict",
        f"PUT {API}/robots/{{robot_id}}/rest",
        f"DELETE {API}/robots/{{robot_id}}/rest",
        f"PUT {API}/robots/{{robot_id}}/task",
        f"POST {API}/robots/{{robot_id}}/reboot",
        f"PUT {API}/robots/{{robot_id}}/notes",
        f"PUT {API}/episodes/{{episode_id}}/label",
        f"POST {API}/episodes/{{episode_id}}/analysis",
        f"POST {API}/jobs/retry",
        f"PUT {API}/episodes/{{episode_id}}/hold",
        f"PUT {API}/robots/{{robot_id}}/hold",
        f"PATCH {API}/episodes",
        f"POST {API}/sets",
        f"DELETE {API}/sets/{{name}}",
        f"PATCH {API}/sets/{{name}}/episodes",
        f"POST {API}/sets/{{name}}/episodes/matching",
        f"DELETE {API}/sets/{{name}}/episodes/matching",
    ],
    "admin": [
        f"GET {API}/audit",
        f"GET {API}/users",
        f"POST {API}/users",
        f"PATCH {API}/users/{{username}}",
        f"POST {API}/users/{{username}}/login-link",
        f"GET {API}/users/{{username}}/sessions",
        f"DELETE {API}/users/{{username}}/sessions",
        f"DELETE {API}/users/{{username}}/sessions/{{session_id}}",
        f"POST {API}/robots/{{robot_id}}/enrolment-code",
        f"GET {API}/robots/{{robot_id}}/credential",
        f"DELETE {API}/robots/{{robot_id}}/credential",
        f"DELETE {API}/episodes/{{episode_id}}",
        f"DELETE {API}/episodes/{{episode_id}}/hold",
        f"DELETE {API}/robots/{{robot_id}}/hold",
        f"GET {API}/retention/rules",
        f"PUT {API}/retention/rules/{{name}}",
        f"DELETE {API}/retention/rules/{{name}}",
        f"GET {API}/retention/plan",
        f"GET {API}/retention/nights",
    ],
}
NEEDS = {route: need for need, routes in ACCESS.items() for route in routes}
ROLES = {"viewer": 1, "operator": 2, "admin": 3}
VALUES = {
    "index": "0",
    "session_id": "999999",
    "token_id": "999999",
    "sha256": "0" * 64,
    "which": "first",
    "kind": "mcap",
}
METHODS = {"get", "put", "post", "patch", "delete", "head", "options"}


def routes(app) -> set[str]:
    document = app.openapi()
    return {f"{m.upper()} {path}" for path, item in document["paths"].items() for m in item if m in METHODS}


def undocumented(router) -> list[str]:
    """Routes that the OpenAPI document, and so the table, would not show."""
    found = []
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            found += undocumented(inner)
        elif not getattr(route, "include_in_schema", True) and not str(route.path).endswith("/openapi.json"):
            found.append(route.path)
    return found


def test_every_route_has_a_stated_requirement(app):
    assert routes(app) == set(NEEDS)
    assert undocumented(app) == []


@pytest.fixture
async def everybody(connect, person, enrol, services):
    """Clients by what they are; the tokens have every scope of an administrator."""
    admin = await person(Role.ADMIN, "root-admin")
    body = {"name": "all", "scopes": ["read", "operate", "admin", "metrics"]}
    secret = (await admin.post(f"{API}/tokens", json=body)).raise_for_status().json()["token"]
    made = {
        "anonymous": connect("192.0.2.7"),
        "robot": (await enrol("robot-9")).http,
        "viewer": await person(Role.VIEWER),
        "operator": await person(Role.OPERATOR),
        "admin": admin,
        "token": connect("192.0.2.7", headers={"Authorization": f"Bearer {secret}"}),
    }
    yield made
    await asyncio.gather(*(client.aclose() for client in made.values()))


def allowed(need: str, who: str) -> bool:
    if need in {"open", "metrics"}:
        return need == "open" or who not in {"anonymous"}
    if need == "robot":
        return who == "robot"
    if need == "login":
        return who in ROLES
    return who == "token" or ROLES.get(who, 0) >= ROLES[need]


@pytest.mark.parametrize("route", sorted(NEEDS))
async def test_a_route_lets_in_whom_it_states_and_nobody_else(everybody, route):
    need = NEEDS[route]
    method, template = route.split(" ")
    path = template.format_map(type("Values", (dict,), {"__missing__": lambda _, name: VALUES.get(name, "none")})())
    for who, client in everybody.items():
        if need == "metrics" and who in {"robot", "viewer", "operator", "admin"}:
            continue  # these come from this machine, which may always; the token and the stranger do not
        answer = await client.request(method, path, headers={"Tus-Resumable": "1.0.0"})
        refused = answer.status_code in {401, 403} and route not in ACCESS["open"]
        assert refused != allowed(need, who), f"{who}: {route}: {answer.status_code} {answer.text}"
        assert answer.status_code < 500


@pytest.mark.parametrize(
    ("scopes", "may"),
    [(["read"], {"GET"}), (["operate"], {"PUT"}), (["metrics"], set()), (["read", "operate"], {"GET", "PUT"})],
)
async def test_a_token_does_what_its_scopes_say(everybody, connect, scopes, may):
    made = await everybody["operator"].post(f"{API}/tokens", json={"name": "t", "scopes": scopes})
    secret = made.raise_for_status().json()["token"]
    async with connect(headers={"Authorization": f"Bearer {secret}"}) as client:
        tried = {"GET": await client.get(f"{API}/robots"), "PUT": await client.put(f"{API}/estop")}
    assert {name for name, answer in tried.items() if answer.is_success} == may


async def test_a_token_never_does_more_than_its_owner(everybody, connect, services):
    made = await everybody["admin"].post(f"{API}/tokens", json={"name": "t", "scopes": ["admin"]})
    async with connect(headers={"Authorization": f"Bearer {made.json()['token']}"}) as client:
        assert (await client.get(f"{API}/users")).status_code == 200
        async with services.db.transaction() as session:
            await accounts.put_user(session, "another", Role.ADMIN, None, "test")
            await accounts.change_user(session, "root-admin", "test", role=Role.VIEWER)
        assert (await client.get(f"{API}/users")).status_code == 403
