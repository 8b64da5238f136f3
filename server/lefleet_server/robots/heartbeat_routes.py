"""The heartbeat: the one request of which thousands a second may come.

FastAPI knows it as any other route, for the API's description. What it would do for each request (dependencies, the
body through Python's objects, a model for the answer) costs more than the heartbeat, so the handler is our own.
"""

import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError

from lefleet_server.auth import bearer, no_robot, services_of
from lefleet_server.problems import WrongMediaType
from lefleet_server.robots import credentials
from lefleet_server.robots.beats import Said
from lefleet_server.robots.exposition import Checked
from lefleet_server.robots.schemas import Heartbeat, HeartbeatAnswer
from lefleet_server.secret import ROBOT_PREFIX, digest
from lefleet_server.services import Services


class _Direct(APIRoute):
    """Calls the endpoint with the request alone."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


router = APIRouter(route_class=_Direct)
_REF = "#/components/schemas"


@router.post(
    "/robot/heartbeat",
    tags=["robots"],
    response_model=HeartbeatAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"{_REF}/{Heartbeat.__name__}"}}},
        },
    },
)
async def heartbeat(request: Request) -> Response:
    """Replaces what the server knows about the robot now."""
    services = services_of(request)
    token = bearer(request, ROBOT_PREFIX)
    if token is None:
        raise no_robot()
    sent = digest(token)
    # Before the body is looked at: who is nobody's robot learns nothing and costs little.
    if not services.beats.knows(sent):
        await _require_holder(services, token)
    said = await _said(request, services.expositions)
    if not await services.beats.store(sent, said):
        # Revoked meanwhile, or a new credential that takes over with this request.
        await _require_holder(services, token)
        if not await services.beats.store(sent, said):
            raise no_robot()
    return _answer(services)


async def _require_holder(services: Services, token: str) -> None:
    if await credentials.holder(services.db, token) is None:
        raise no_robot()


async def _said(request: Request, expositions: Checked) -> Said:
    if "json" not in request.headers.get("content-type", "").lower():
        raise WrongMediaType("send the heartbeat as application/json", fields=[("Content-Type", "must be JSON")])
    body = await request.body()
    try:
        found = Heartbeat.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(
            [dict(each) | {"loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        ) from error
    await expositions.check(found.metrics)
    return Said(found.state, found.episode_id, found.model_dump_json(exclude={"metrics"}), found.metrics)


def _answer(services: Services) -> Response:
    answer = HeartbeatAnswer(
        server_wall_ns=time.time_ns(),
        interval_s=services.settings.heartbeat_interval_s,
        instance=services.instance,
    )
    return Response(answer.model_dump_json(), media_type="application/json")
