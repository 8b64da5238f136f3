"""The API keeps its OpenAPI document, whoever asks and whatever they send: found by schemathesis, with fixed seeds."""

import asyncio
import hashlib
import os
from collections.abc import Mapping

import cv2
import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from workers import run_until_empty

from lefleet_server.accounts.models import Role
from lefleet_server.app import create_app

EXAMPLES = int(os.environ.get("LEFLEET_TEST_EXAMPLES", "4"))
"""Of each operation and caller, and as many with what is there; docs/decisions.md says how to try more."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CHUNK = "application/offset+octet-stream"
LEFT_OUT = {
    "GET /api/v1/robot/wishes": "keeps the caller for up to thirty seconds: what it is for",
    "POST /api/v1/logout": "would make everything after it anonymous",
    "DELETE /api/v1/me/sessions/{session_id}": "as above, when it guesses the caller's own",
}


@schemathesis.serializer(CHUNK)
def chunk(_, value) -> bytes:
    """Any bytes do: the document says nothing about them."""
    return repr(value).encode()


def bearer(client) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.cookies['lefleet_session']}"}


@pytest.fixture
async def there(person, robot, services, settings, episode_file) -> dict[str, str]:
    """By each path parameter's name something that is there: an episode with all that is made of it, a set, a rule."""
    admin, somebody = await person(Role.ADMIN), await person(Role.VIEWER, "somebody")
    path = episode_file()
    (await robot.upload(path)).raise_for_status()
    await run_until_empty(services, settings)
    began = (await robot.announce(b"half of it", "a" * 32)).raise_for_status()
    picture = cv2.imencode(".jpg", np.zeros((24, 32, 3), np.uint8))[1].tobytes()
    jpeg = {"Content-Type": "image/jpeg"}
    (await robot.http.put("/api/v1/robot/cameras/front", content=picture, headers=jpeg)).raise_for_status()
    (await robot.heartbeat()).raise_for_status()
    (await admin.post("/api/v1/sets", json={"name": "good"})).raise_for_status()
    (await admin.patch("/api/v1/sets/good/episodes", json={"add": [path.stem]})).raise_for_status()
    (await admin.put("/api/v1/retention/rules/old", json={"older_than_days": 3650})).raise_for_status()
    token = await admin.post("/api/v1/tokens", json={"name": "t", "scopes": ["read"]})
    sessions = await somebody.get("/api/v1/me/sessions")
    return {
        "episode_id": path.stem,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "camera": "front",
        "index": "3",
        "robot_id": robot.id,
        "upload_id": began.headers["location"].rpartition("/")[2],
        "token_id": token.raise_for_status().json()["id"],
        "username": "somebody",
        "session_id": sessions.raise_for_status().json()["items"][0]["id"],
        "sets/name": "good",
        "rules/name": "old",
        "cameras/name": "front",
    }


@pytest.mark.parametrize("who", ["anonymous", "robot", "viewer", "operator", "admin"])
async def test_no_answer_breaks_the_document(who, person, robot, services, run_app, there):
    headers: dict[str, str] = {}
    if who == "robot":
        headers = {"Authorization": f"Bearer {robot.token}"}
    elif who != "anonymous":
        headers = bearer(await person(Role(who)))
    app = create_app(services.settings, dashboard=False)
    url = await asyncio.to_thread(run_app, app, services.settings.port)
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.config.update(base_url=url)
    failures = await asyncio.to_thread(walk, schema, headers | {"Tus-Resumable": "1.0.0"}, there)
    assert failures == []
    known = "/api/v1/robot/wishes" if who == "robot" else "/api/v1/me"
    still = await asyncio.to_thread(httpx.get, url + known, headers=headers)
    assert still.is_success or who == "anonymous", "it was somebody else's answers that were looked at"


def walk(schema, headers: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """What deletes comes last, so that all else meets what is there."""
    failures = []
    operations = [found.ok() for found in schema.get_all_operations()]
    for operation in sorted(operations, key=lambda each: each.method.upper() == "DELETE"):
        if operation.label in LEFT_OUT:
            continue
        real = real_ids(operation, there)
        for ids in ({}, real) if real else ({},):
            try:
                exercise(operation, headers, ids)
            except (Exception, FailureGroup) as error:  # noqa: BLE001 - every operation is tried, and all that fail are told
                failures.append(f"{operation.label} {ids}: {getattr(error, 'exceptions', None) or error}")
    return failures


def real_ids(operation, there: Mapping[str, str]) -> dict[str, str]:
    """Its path's parameters that name something that is there."""
    names = [each.name for each in operation.path_parameters]
    folder = operation.path.rpartition("/{name}")[0].rpartition("/")[2]
    return {name: there[key] for name in names if (key := f"{folder}/name" if name == "name" else name) in there}


def exercise(operation, headers: Mapping[str, str], ids: Mapping[str, str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case) -> None:
        case.path_parameters.update(ids)
        case.call_and_validate(headers=dict(headers), checks=CHECKS)

    run()
