"""Robots: enrolment and heartbeats from them, what people see of them."""

import hashlib
import time
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from lefleet_server.auth import CurrentRobot, CurrentUser, ServicesDep
from lefleet_server.fields import CameraName
from lefleet_server.problems import Invalid, TooLarge, WrongMediaType
from lefleet_server.robots import exposition, service
from lefleet_server.robots.schemas import (
    Enrolled,
    EnrolRequest,
    Heartbeat,
    HeartbeatAnswer,
    RobotList,
    RobotOut,
)
from lefleet_server.threads import in_thread

MAX_PICTURE_BYTES = 512 * 1024

router = APIRouter()


@router.post("/robots/enrol", status_code=201, tags=["robots"])
async def enrol(body: EnrolRequest, services: ServicesDep) -> Enrolled:
    """Turns a one-time code into the robot's credential; one it had before stops working."""
    async with services.db.transaction() as session:
        token = await service.enrol(session, body.code, body.robot_id, body.agent_version, body.hw)
    return Enrolled(robot_id=body.robot_id, token=token)


@router.post("/robot/heartbeat", tags=["robots"])
async def heartbeat(body: Heartbeat, robot: CurrentRobot, services: ServicesDep) -> HeartbeatAnswer:
    """Replaces what the server knows about the robot now."""
    await in_thread(exposition.check, body.metrics)
    said = body.model_dump(mode="json", exclude={"metrics"})
    async with services.db.transaction() as session:
        await service.store_heartbeat(session, robot.id, body.state, body.episode_id, said, body.metrics)
    return HeartbeatAnswer(
        server_wall_ns=time.time_ns(),
        interval_s=services.settings.heartbeat_interval_s,
        instance=services.instance,
    )


@router.put(
    "/robot/cameras/{name}",
    status_code=204,
    tags=["robots"],
    openapi_extra={"requestBody": {"required": True, "content": {"image/jpeg": {}}}},
)
async def put_picture(
    name: Annotated[CameraName, Path()], request: Request, robot: CurrentRobot, services: ServicesDep
) -> Response:
    """Replaces the newest picture of one camera: a JPEG of at most 512 KiB."""
    if request.headers.get("content-type") != "image/jpeg":
        raise WrongMediaType("send the picture as image/jpeg", fields=[("Content-Type", "must be image/jpeg")])
    jpeg = await request.body()
    if len(jpeg) > MAX_PICTURE_BYTES:
        raise TooLarge(f"the picture has {len(jpeg)} bytes, at most {MAX_PICTURE_BYTES} are taken; lower its quality")
    if not (jpeg.startswith(b"\xff\xd8\xff") and jpeg.endswith(b"\xff\xd9")):
        raise Invalid("the body is not a whole JPEG", fields=[("body", "must begin FF D8 FF and end FF D9")])
    async with services.db.transaction() as session:
        await service.store_picture(session, robot.id, name, jpeg)
    return Response(status_code=204)


@router.get("/robots", tags=["people"])
async def list_robots(user: CurrentUser, services: ServicesDep) -> RobotList:
    """Every robot, by name."""
    async with services.db.session() as session:
        views = await service.list_robots(session, services.settings.offline_after_s)
    return RobotList(items=[RobotOut.of(view) for view in views])


@router.get("/robots/{robot_id}", tags=["people"])
async def get_robot(robot_id: str, user: CurrentUser, services: ServicesDep) -> RobotOut:
    async with services.db.session() as session:
        return RobotOut.of(await service.get_robot(session, robot_id, services.settings.offline_after_s))


@router.get(
    "/robots/{robot_id}/cameras/{name}.jpg",
    tags=["people"],
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
async def get_picture(robot_id: str, name: str, request: Request, user: CurrentUser, services: ServicesDep) -> Response:
    """The newest picture of one camera."""
    async with services.db.session() as session:
        found = await service.picture(session, robot_id, name)
    etag = f'"{hashlib.sha256(found.jpeg).hexdigest()[:32]}"'
    headers = {
        "Cache-Control": "private, no-cache",
        "ETag": etag,
        "LeFleet-Received-At": found.received_at.isoformat(),
    }
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(found.jpeg, media_type="image/jpeg", headers=headers)
