"""Robots: enrolment, heartbeats and pictures from them, what people see of them."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.auth import Admin, CurrentRobot, CurrentUser, Operator, ServicesDep, bearer, no_robot
from lefleet_server.fields import CameraName, RobotId, Site, Word
from lefleet_server.problems import Invalid, TooLarge, WrongMediaType
from lefleet_server.robots import credentials, orders, pictures, reboots, service, stops, verdicts
from lefleet_server.robots.beats import Said
from lefleet_server.robots.orders import Kind
from lefleet_server.robots.schemas import (
    Credential,
    CredentialState,
    Enrolled,
    EnrolmentCode,
    EnrolRequest,
    Heartbeat,
    HeartbeatAnswer,
    Revoked,
    RobotList,
    RobotOut,
)
from lefleet_server.robots.wish_schemas import (
    EstopOut,
    ReasonIn,
    RebootOut,
    RestOut,
    Stopping,
    TaskIn,
    TaskOut,
    VerdictIn,
    VerdictOut,
    WishesOut,
)
from lefleet_server.robots.wishes import Heard
from lefleet_server.secret import ROBOT_PREFIX, digest
from lefleet_server.services import Services

MAX_PICTURE_BYTES = 512 * 1024
MAX_WAIT_S = 30.0

router = APIRouter()


@router.post("/robots/enrol", status_code=201, tags=["robots"])
async def enrol(body: EnrolRequest, services: ServicesDep) -> Enrolled:
    """Turns a one-time code into the robot's credential; one it had before stops working."""
    async with services.db.transaction() as session:
        token = await service.enrol(session, body.code, body.robot_id, body.agent_version, body.hw)
    return Enrolled(robot_id=body.robot_id, token=token)


@router.post("/robot/heartbeat", tags=["robots"])
async def heartbeat(body: Heartbeat, request: Request, robot: CurrentRobot, services: ServicesDep) -> HeartbeatAnswer:
    """Replaces what the server knows about the robot now."""
    # By its credential and not by its name: revoked meanwhile, it is refused. Those known go by robots.shortcut.
    robot_id = await services.beats.store(digest(bearer(request, ROBOT_PREFIX) or ""), Said.of(body))
    if robot_id is None:
        raise no_robot()
    watched = await services.watches.watched(robot_id)
    return HeartbeatAnswer.now(services.watches.interval_s(watched), watched, services.instance)


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
        await pictures.store(session, robot.id, name, jpeg)
    return Response(status_code=204)


_Heard = Annotated[
    int | None,
    Query(ge=0, le=stops.NUMBER_MAX, description="The newest such word that the robot knows; none: it takes none."),
]


@router.get("/robot/wishes", tags=["robots"])
async def get_wishes(
    robot: CurrentRobot,
    request: Request,
    response: Response,
    services: ServicesDep,
    since: Annotated[int, Query(ge=0, le=stops.NUMBER_MAX, description="The newest wish that the robot obeyed.")] = 0,
    verdict_since: _Heard = None,
    rest_since: _Heard = None,
    task_since: _Heard = None,
    reboot_since: _Heard = None,
    wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="How long to wait for a newer one.")] = 0,
) -> WishesOut:
    """What people want of the robot: as soon as that is newer than what it names, and what there is after `wait_s`."""
    response.headers["Cache-Control"] = "no-store"
    heard = Heard(since, verdict_since, {Kind.REST: rest_since, Kind.TASK: task_since, Kind.REBOOT: reboot_since})
    wish = await services.wishes.newer(robot.id, heard, wait_s, request.is_disconnected)
    return WishesOut.of(wish)


@router.post("/robot/credential", status_code=201, tags=["robots"])
async def renew_credential(robot: CurrentRobot, response: Response, services: ServicesDep) -> Credential:
    """A new credential. The one that asks stays valid until the new one is used; another answer not used is void."""
    response.headers["Cache-Control"] = "no-store"
    async with services.db.transaction() as session:
        return Credential(token=await credentials.renew(session, robot.id))


@router.post("/robots/{robot_id}/enrolment-code", status_code=201, tags=["people"])
async def create_enrolment_code(
    robot_id: Annotated[RobotId, Path()],
    user: Admin,
    response: Response,
    services: ServicesDep,
    site: Annotated[Site, Query()] = "",
) -> EnrolmentCode:
    """A one-time code with which a robot of this name gets its credential."""
    response.headers["Cache-Control"] = "no-store"
    ttl_s = services.settings.enrol_code_ttl_s
    async with services.db.transaction() as session:
        code = await service.create_enrolment_code(session, robot_id, site, ttl_s, f"user:{user.username}")
    return EnrolmentCode(robot_id=robot_id, code=code, ttl_s=ttl_s)


@router.get("/robots/{robot_id}/credential", tags=["people"])
async def get_credential(robot_id: Annotated[RobotId, Path()], user: Admin, services: ServicesDep) -> CredentialState:
    """How it stands with the robot's credential, which itself is told to nobody."""
    async with services.db.session() as session:
        return CredentialState.model_validate(await credentials.standing(session, robot_id))


@router.delete("/robots/{robot_id}/credential", tags=["people"])
async def revoke_credential(robot_id: Annotated[RobotId, Path()], user: Admin, services: ServicesDep) -> Revoked:
    """Takes the robot's credential away at once; its episodes stay, and a new enrolment code brings it back."""
    async with services.db.transaction() as session:
        changed = await service.revoke(session, robot_id, f"user:{user.username}")
    return Revoked(robot_id=robot_id, changed=changed)


@router.get("/robots", tags=["people"])
async def list_robots(
    user: CurrentUser,
    services: ServicesDep,
    state: Annotated[Word | None, Query(description="As `state` says it: `running`, `offline`, `retired`...")] = None,
    site: Annotated[Site | None, Query(description="Empty: robots without one.")] = None,
    limit: Annotated[int | None, Query(ge=1, le=1000, description="None: every robot in one answer.")] = None,
    cursor: RobotId | None = None,
) -> RobotList:
    """Robots by name, in pages where a limit is given."""
    firing = await services.alerts.firing()
    async with services.db.session() as session:
        page = await service.robot_page(session, services.settings.offline_after_s, state, site, limit, cursor)
        names = None if limit is None else [view.robot.id for view in page.items]
        return RobotList.of(page, await services.fleet.read(session, names, firing))


@router.get("/robots/{robot_id}", tags=["people"])
async def get_robot(robot_id: str, user: CurrentUser, services: ServicesDep) -> RobotOut:
    firing = await services.alerts.firing()
    async with services.db.session() as session:
        view = await _view_of(session, robot_id, services)
        (judged,) = await services.fleet.read(session, [robot_id], firing)
        return RobotOut.of(view, judged)


@router.get(
    "/robots/{robot_id}/cameras/{name}.jpg",
    tags=["people"],
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
async def get_picture(robot_id: str, name: str, request: Request, user: CurrentUser, services: ServicesDep) -> Response:
    """The newest picture of one camera. The robot sends them as they come while somebody asks, and seldom otherwise."""
    async with services.db.session() as session:
        found = await pictures.newest(session, robot_id, name)
    await services.watches.watch(robot_id)
    etag = f'"{hashlib.sha256(found.jpeg).hexdigest()[:32]}"'
    headers = {
        "Cache-Control": "private, no-cache",
        "ETag": etag,
        "LeFleet-Received-At": found.received_at.isoformat(),
    }
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(found.jpeg, media_type="image/jpeg", headers=headers)


@router.put("/robots/{robot_id}/estop", tags=["people"])
async def stop_robot(robot_id: str, user: Operator, services: ServicesDep) -> EstopOut:
    """Emergency stop: the arm holds still, torque on, until it is released. A robot that is offline obeys later."""
    async with services.db.transaction() as session:
        await stops.stop(session, f"user:{user.username}", robot_id)
        return await _stop_of(session, robot_id, services)


@router.delete("/robots/{robot_id}/estop", tags=["people"])
async def release_robot(
    robot_id: str,
    number: Annotated[int, Query(ge=0, le=stops.NUMBER_MAX, description="Of the stop that is to end, as last seen.")],
    user: Operator,
    services: ServicesDep,
) -> EstopOut:
    """Ends the emergency stop that the person saw; 409 when somebody asked for another meanwhile."""
    async with services.db.transaction() as session:
        await stops.release(session, f"user:{user.username}", robot_id, number)
        return await _stop_of(session, robot_id, services)


@router.put("/estop", tags=["people"])
async def stop_all_robots(user: Operator, services: ServicesDep) -> Stopping:
    """Emergency stop of every robot. Each is released by itself."""
    async with services.db.transaction() as session:
        return Stopping(robots=list(await stops.stop_all(session, f"user:{user.username}")))


@router.put("/robots/{robot_id}/verdict", tags=["people"])
async def give_verdict(robot_id: str, body: VerdictIn, user: Operator, services: ServicesDep) -> VerdictOut:
    """Ends the episode that runs on the robot with this outcome; 409 when another one runs, or none."""
    async with services.db.transaction() as session:
        actor = f"user:{user.username}"
        return VerdictOut.of(await verdicts.say(session, actor, robot_id, body.episode_id, body.word))


@router.put("/robots/{robot_id}/rest", tags=["people"])
async def rest_robot(robot_id: str, user: Operator, services: ServicesDep, body: ReasonIn | None = None) -> RestOut:
    """The robot finishes its episode and begins no other, whatever restarts meanwhile."""
    return await _order_rest(robot_id, True, user.username, services, body.reason if body else "")


@router.delete("/robots/{robot_id}/rest", tags=["people"])
async def end_rest(robot_id: str, user: Operator, services: ServicesDep) -> RestOut:
    """The robot goes on, unless somebody asked for its rest at the robot itself."""
    return await _order_rest(robot_id, False, user.username, services)


@router.put("/robots/{robot_id}/task", tags=["people"])
async def set_task(robot_id: str, body: TaskIn, user: Operator, services: ServicesDep) -> TaskOut:
    """What the robot's policy is asked to do, from its next episode on."""
    async with services.db.transaction() as session:
        order = await orders.say(session, f"user:{user.username}", robot_id, Kind.TASK, body.text)
        return TaskOut.of(order, (await _view_of(session, robot_id, services)).heartbeat)


@router.post("/robots/{robot_id}/reboot", tags=["people"])
async def reboot_robot(robot_id: str, user: Operator, services: ServicesDep, body: ReasonIn | None = None) -> RebootOut:
    """The robot's host starts anew once the robot has ended its episode; 409 where it would not, or is about to."""
    async with services.db.transaction() as session:
        actor, reason = f"user:{user.username}", body.reason if body else ""
        order, view = await reboots.ask(session, actor, robot_id, services.settings.offline_after_s, reason)
        return RebootOut.of(order, view.heartbeat, view.received_at, view.now)


async def _order_rest(robot_id: str, wanted: bool, username: str, services: Services, reason: str = "") -> RestOut:
    async with services.db.transaction() as session:
        order = await orders.say(session, f"user:{username}", robot_id, Kind.REST, wanted, reason)
        return RestOut.of(order, (await _view_of(session, robot_id, services)).heartbeat)


async def _stop_of(session: AsyncSession, robot_id: str, services: Services) -> EstopOut:
    return EstopOut.of((await _view_of(session, robot_id, services)).stop)


async def _view_of(session: AsyncSession, robot_id: str, services: Services) -> service.RobotView:
    return await service.get_robot(session, robot_id, services.settings.offline_after_s)
