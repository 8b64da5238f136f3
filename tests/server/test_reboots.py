"""People reboot a robot's host from afar: who may, who is refused and why, and how far people see that it got."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from lefleet_server.accounts.models import Role
from lefleet_server.audit.models import AuditEntry
from lefleet_server.robots.models import RobotOrder

ROBOT = "/api/v1/robots/robot-1"
REBOOT = f"{ROBOT}/reboot"
TAKES = {"orders": {"reboot": 0}, "uptime_s": 9000.0}


@pytest.fixture
async def operator(person):
    client = await person(Role.OPERATOR, "ada")
    yield client
    await client.aclose()


async def heard(robot, since: int = 0, wait_s: float = 10, **more: int) -> dict:
    params = {"since": 0, "wait_s": wait_s} | ({"reboot_since": since} if since >= 0 else {}) | more
    return (await robot.http.get("/api/v1/robot/wishes", params=params)).raise_for_status().json()


async def state_of(operator) -> str:
    return (await operator.get(ROBOT)).raise_for_status().json()["reboot"]["state"]


async def make_older(services, by: timedelta) -> None:
    async with services.db.transaction() as session:
        await session.execute(update(RobotOrder).values(said_at=func.now() - by))


async def test_a_reboot_is_heard_at_once_and_seen_until_the_host_is_up_again(robot, operator, services):
    await robot.heartbeat(**TAKES)
    assert (await operator.get(ROBOT)).json()["reboot"] is None
    waiting = asyncio.create_task(heard(robot, wait_s=30))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    said = (await operator.post(REBOOT, json={"reason": " the GPU hangs "})).raise_for_status().json()
    assert (said["state"], said["reason"], said["said_by"]) == ("asked", "the GPU hangs", "user:ada")
    number = (await asyncio.wait_for(waiting, 15))["reboot"]["number"]
    await robot.heartbeat(orders={"reboot": number}, uptime_s=9001.0)
    assert await state_of(operator) == "heard"
    await asyncio.sleep(0.2)
    await robot.heartbeat(orders={"reboot": number}, uptime_s=0.1)
    assert await state_of(operator) == "done"
    assert (await operator.post(REBOOT)).raise_for_status().json()["state"] == "asked", "and the next may be asked for"
    assert (await heard(robot, number))["reboot"]["number"] > number
    async with services.db.session() as session:
        found = await session.scalars(
            select(AuditEntry.detail).where(AuditEntry.action == "robot.reboot").order_by(AuditEntry.id)
        )
        assert list(found) == [{"reboot": True, "reason": "the GPU hangs"}, {"reboot": True}]


async def test_two_who_ask_at_once_and_one_who_asks_twice_are_one_reboot(robot, operator):
    await robot.heartbeat(**TAKES)
    answers = await asyncio.gather(*(operator.post(REBOOT) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    number = (await heard(robot))["reboot"]["number"]
    await robot.heartbeat(orders={"reboot": number}, uptime_s=9001.0)
    refused = await operator.post(REBOOT)
    assert refused.status_code == 409 and "about to reboot: ada asked" in refused.json()["detail"]
    assert (await heard(robot, wait_s=0))["reboot"]["number"] == number


async def test_a_word_that_nobody_heard_in_time_is_void(robot, operator, services):
    await robot.heartbeat(**TAKES)
    await operator.post(REBOOT)
    await make_older(services, timedelta(minutes=9))
    assert (await heard(robot, wait_s=1))["reboot"] and await state_of(operator) == "asked"
    await make_older(services, timedelta(minutes=11))
    await asyncio.sleep(0.5)  # what the server has at hand is that old
    assert (await heard(robot, wait_s=0))["reboot"] is None and await state_of(operator) == "void"
    assert (await operator.post(REBOOT)).status_code == 200, "somebody may ask anew"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "robot-1 is offline"),
        ({"orders": {"rest": 4, "rests": True}}, "takes no reboots from afar"),
        ({"orders": {"reboot": None}}, "takes no reboots from afar"),
        ({"orders": None}, "takes no reboots from afar"),
    ],
)
async def test_a_host_that_would_not_is_not_asked(robot, operator, said, why):
    if said is not None:
        await robot.heartbeat(**said)
    refused = await operator.post(REBOOT)
    assert refused.status_code == 409 and why in refused.json()["detail"]
    assert (await operator.get(ROBOT)).json()["reboot"] is None


async def test_viewers_reboot_nobody_and_nobody_a_robot_that_is_none_or_retired(robot, operator, person):
    await robot.heartbeat(**TAKES)
    viewer, admin = await person(Role.VIEWER), await person(Role.ADMIN)
    assert (await viewer.post(REBOOT)).status_code == 403
    assert (await operator.post("/api/v1/robots/none/reboot")).status_code == 404
    assert (await operator.post(REBOOT, json={"reason": "x" * 301})).status_code == 422
    (await admin.delete(f"{ROBOT}/credential")).raise_for_status()
    refused = await operator.post(REBOOT)
    assert refused.status_code == 409 and "robot-1 is retired" in refused.json()["detail"]
    await viewer.aclose()
    await admin.aclose()


async def test_a_robot_that_takes_none_is_not_woken_by_one(robot, operator):
    await robot.heartbeat(**TAKES)
    await operator.post(REBOOT)
    waiting = asyncio.create_task(heard(robot, since=-1, wait_s=30, rest_since=0))
    await asyncio.sleep(1)
    assert not waiting.done()
    await operator.put(f"{ROBOT}/rest")
    await asyncio.wait_for(waiting, 15)


async def test_a_word_is_newer_than_what_the_robot_obeyed_also_after_a_restore(robot, operator):
    ahead = 1 << 52  # from a server whose clock was wrong, or whose database was restored since
    await robot.heartbeat(orders={"reboot": ahead}, uptime_s=5.0)
    assert (await operator.post(REBOOT)).status_code == 200
    assert (await heard(robot, ahead))["reboot"]["number"] > ahead


@pytest.mark.parametrize("uptime_s", [-1, "x", 1e300, float(1 << 62)])
async def test_a_strange_uptime_is_refused(robot, uptime_s):
    assert (await robot.heartbeat(uptime_s=uptime_s)).status_code == 422
