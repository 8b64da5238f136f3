"""What watches the house: liveness, readiness, metrics, and the robots' metrics for Prometheus."""

import hmac
import ipaddress
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from lefleet_server.accounts.roles import Role, Scope
from lefleet_server.auth import ServicesDep, bearer, principal_of
from lefleet_server.metrics import CONTENT_TYPE
from lefleet_server.operations import service
from lefleet_server.problems import Forbidden
from lefleet_server.robots import exposition
from lefleet_server.secret import digest, read_secret
from lefleet_server.threads import in_thread


async def _metrics_allowed(request: Request, services: ServicesDep) -> None:
    settings = services.settings
    if settings.metrics_open or _is_this_machine(request):
        return
    if settings.metrics_token_file is not None and await in_thread(_has_token, request, settings.metrics_token_file):
        return
    person = await principal_of(services.db, request)
    if person is not None:
        person.require(Role.VIEWER, Scope.METRICS)
        return
    raise Forbidden("metrics answer this machine only; log in, send the metrics token, or set metrics_open")


def _is_this_machine(request: Request) -> bool:
    # uvicorn puts what a trusted proxy said in X-Forwarded-For here, so a proxied stranger is not "this machine".
    if request.client is None:
        return True
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False  # a proxy's word that is no address


def _has_token(request: Request, file: Path) -> bool:
    sent = bearer(request, "")
    return sent is not None and hmac.compare_digest(digest(sent), digest(read_secret(file)))


root = APIRouter(tags=["operations"])
router = APIRouter(tags=["operations"], prefix="/metrics", dependencies=[Depends(_metrics_allowed)])


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    """`ok`, or what is wrong, for each thing the server needs."""

    ready: bool
    checks: dict[str, str]


@root.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health(status="ok")


@root.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(services: ServicesDep) -> JSONResponse:
    """Database reachable, its schema not too old, store writable: 200, or 503 with what is wrong."""
    checks = await service.readiness(services)
    ready = all(found == "ok" for found in checks.values())
    return JSONResponse(Readiness(ready=ready, checks=checks).model_dump(), 200 if ready else 503)


@root.get("/metrics", response_class=PlainTextResponse, dependencies=[Depends(_metrics_allowed)])
async def metrics(services: ServicesDep) -> Response:
    """The server's own metrics in Prometheus' text format."""
    return Response(await service.render_metrics(services), media_type=CONTENT_TYPE)


@router.get("/targets")
async def targets(request: Request, services: ServicesDep) -> list[dict[str, Any]]:
    """Prometheus' HTTP service discovery. Fails when the database does: an empty list would drop every robot."""
    async with services.db.session() as session:
        return await exposition.targets(session, request.url.netloc, request.url.scheme)


@router.get("/robot", response_class=PlainTextResponse)
async def robot_metrics(robot: Annotated[str, Query(max_length=63)], services: ServicesDep) -> Response:
    """One robot's last metrics, less the lines that Prometheus cannot read; 503 when it has missed three heartbeats."""
    offline_after_s = services.settings.offline_after_s
    text = await exposition.render(services.db, services.robot_lines, robot, offline_after_s, time.time())
    return Response(text, media_type=CONTENT_TYPE)
