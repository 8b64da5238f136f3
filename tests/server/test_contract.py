"""The API keeps its OpenAPI document, whoever asks and whatever they send: found by schemathesis, with fixed seeds."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lefleet_server.accounts.models import Role
from lefleet_server.app import create_app

EXAMPLES = 4
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


@pytest.mark.parametrize("who", ["anonymous", "robot", "viewer", "operator", "admin"])
async def test_no_answer_breaks_the_document(who, person, robot, services, run_app):
    headers: dict[str, str] = {}
    if who == "robot":
        headers = {"Authorization": f"Bearer {robot.token}"}
    elif who != "anonymous":
        headers = bearer(await person(Role(who)))
    app = create_app(services.settings, dashboard=False)
    url = await asyncio.to_thread(run_app, app, services.settings.port)
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.config.update(base_url=url)
    failures = await asyncio.to_thread(walk, schema, headers | {"Tus-Resumable": "1.0.0"})
    assert failures == []
    known = "/api/v1/robot/wishes" if who == "robot" else "/api/v1/me"
    still = await asyncio.to_thread(httpx.get, url + known, headers=headers)
    assert still.is_success or who == "anonymous", "it was somebody else's answers that were looked at"


def walk(schema, headers: Mapping[str, str]) -> list[str]:
    failures = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.label in LEFT_OUT:
            continue
        try:
            exercise(operation, headers)
        except Exception as error:  # noqa: BLE001 - every operation is tried, and all that fail are told
            failures.append(f"{operation.label}: {error}")
    return failures


def exercise(operation, headers: Mapping[str, str]) -> None:
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
        case.call_and_validate(headers=dict(headers), checks=CHECKS)

    run()
