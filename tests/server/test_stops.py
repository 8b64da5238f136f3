"""Emergency stops that people ask for: who may, what is kept, and when a robot hears of them."""

import asyncio

import pytest
from sqlalchemy import select, text

from lefleet_server.accounts.models import AuditEntry, Role
from lefleet_server.robots import service
from lefleet_server.robots.models import RobotStop
from lefleet_server.robots.stops import StopState, seen
from lefleet_server.robots.wishes import Heard

STOP = "/api/v1/robots/robot-1/estop"
WISHES = "/api/v1/robot/wishes"


async def wish(robot, since: int = 0, wait_s: float = 0) -> dict:
    answer = await robot.http.get(WISHES, params={"since": since, "wait_s": wait_s})
    return answer.raise_for_status().json()["estop"]


async def test_a_stop_is_kept_with_who_asked_and_the_robot_hears_of_it(robot, operator, services):
    assert await wish(robot) == {"number": 0, "wanted": False}
    pressed = (await operator.put(STOP)).raise_for_status().json()
    assert (pressed["state"], pressed["asked_by"][:14]) == ("stopping", "user:operator-")
    assert pressed["asked_at"]
    assert await wish(robot, wait_s=10) == {"number": pressed["number"], "wanted": True}
    assert (await operator.get("/api/v1/robots/robot-1")).json()["estop"] == pressed
    async with services.db.session() as session:
        entry = (await session.scalars(select(AuditEntry).where(AuditEntry.action == "robot.estop"))).one()
    assert (entry.actor, entry.subject, entry.detail) == (
        pressed["asked_by"],
        "robot:robot-1",
        {"wish": pressed["number"]},
    )


async def test_the_robots_word_makes_it_stopped_and_a_release_ends_it(robot, operator):
    number = (await operator.put(STOP)).json()["number"]

    async def state(**told) -> str:
        await robot.heartbeat(**told)
        return (await operator.get("/api/v1/robots/robot-1")).json()["estop"]["state"]

    assert await state(state="running") == "stopping"
    assert await state(state="running", estop={"wish": number, "holds": True}) == "stopping"
    assert await state(state="estopped", estop={"wish": number, "holds": True}) == "stopped"
    released = (await operator.delete(STOP, params={"number": number})).raise_for_status().json()
    assert released["state"] == "releasing" and released["number"] > number
    assert await wish(robot, since=number, wait_s=10) == {"number": released["number"], "wanted": False}
    assert await state(state="running", estop={"wish": released["number"], "holds": False}) == "free"


async def test_a_release_of_a_stop_that_somebody_renewed_is_refused(robot, operator, person):
    other = await person(Role.ADMIN, "eve")
    number = (await operator.put(STOP)).json()["number"]
    newer = (await other.put(STOP)).json()["number"]
    refused = await operator.delete(STOP, params={"number": number})
    assert refused.status_code == 409
    assert "user:eve" in refused.json()["detail"] and str(newer) in refused.json()["detail"]
    assert await wish(robot, since=number, wait_s=10) == {"number": newer, "wanted": True}
    await other.aclose()


async def test_a_viewer_may_look_and_not_press(robot, operator, person):
    viewer = await person(Role.VIEWER)
    number = (await operator.put(STOP)).json()["number"]
    assert (await viewer.put(STOP)).status_code == 403
    assert (await viewer.put("/api/v1/estop")).status_code == 403
    assert (await viewer.delete(STOP, params={"number": number})).status_code == 403
    assert (await viewer.get("/api/v1/robots/robot-1")).json()["estop"]["state"] == "stopping"
    assert (await viewer.get(WISHES)).status_code == 401, "that is for robots"
    await viewer.aclose()


async def test_a_page_of_another_site_cannot_press(robot, operator):
    assert (await operator.put(STOP, headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403
    assert not (await wish(robot))["wanted"]


async def test_all_robots_stop_at_once_but_those_that_nobody_reaches(robot, enrol, operator, services):
    other, gone = await enrol("robot-2"), await enrol("robot-3")
    async with services.db.transaction() as session:
        await service.revoke(session, "robot-3", "console")
    assert (await operator.put("/api/v1/estop")).json() == {"robots": ["robot-1", "robot-2"]}
    assert (await wish(robot, wait_s=10))["wanted"] and (await wish(other, wait_s=10))["wanted"]
    refused = await operator.put("/api/v1/robots/robot-3/estop")
    assert refused.status_code == 409 and "at the robot" in refused.json()["detail"]
    assert (await operator.put("/api/v1/robots/none/estop")).status_code == 404
    assert (await operator.delete("/api/v1/robots/none/estop", params={"number": 0})).status_code == 404
    await other.http.aclose()
    await gone.http.aclose()


async def test_one_who_waits_hears_at_once_and_nobody_else(robot, enrol, operator):
    other = await enrol("robot-2")
    waiting = asyncio.create_task(wish(robot, wait_s=30))
    elsewhere = asyncio.create_task(wish(other, wait_s=2))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    number = (await operator.put(STOP)).json()["number"]
    assert await asyncio.wait_for(waiting, 15) == {"number": number, "wanted": True}
    assert await elsewhere == {"number": 0, "wanted": False}
    assert await wish(robot, since=number, wait_s=0.2) == {"number": number, "wanted": True}, "after the wait"
    await other.http.aclose()


async def test_another_process_of_the_server_hears_too(robot, operator, settings):
    from lefleet_server.app import build_services

    other = build_services(settings)

    async def stays() -> bool:
        return False

    waiting = asyncio.create_task(other.wishes.newer("robot-1", Heard(0), 30, stays))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    number = (await operator.put(STOP)).json()["number"]
    assert (await asyncio.wait_for(waiting, 15)).number == number
    await other.db.close()


async def test_numbers_grow_over_a_restored_database_and_a_clock_that_was_put_back(robot, operator, services):
    first = (await operator.put(STOP)).json()["number"]
    async with services.db.transaction() as session:
        await session.execute(text("DELETE FROM robot_stops"))
    assert (await operator.put(STOP)).json()["number"] > first, "the time passes"
    async with services.db.transaction() as session:
        await session.execute(text("DELETE FROM robot_stops"))
    ahead = first + 10**12
    await robot.heartbeat(state="estopped", estop={"wish": ahead, "holds": True})
    seen_now = (await operator.get("/api/v1/robots/robot-1")).json()["estop"]
    assert (seen_now["state"], seen_now["number"]) == ("stopped", 0), "what the robot holds can be released"
    released = (await operator.delete(STOP, params={"number": 0})).json()
    assert released["number"] > ahead and released["state"] == "releasing"


@pytest.mark.parametrize(
    ("wanted", "number", "told", "said", "expected"),
    [
        (True, 5, None, "running", StopState.STOPPING),
        (True, 5, (4, True), "estopped", StopState.STOPPING),
        (True, 5, (5, True), "control_down", StopState.STOPPING),
        (True, 5, (5, True), "estopped", StopState.STOPPED),
        (True, 5, (5, False), "running", StopState.FREE),
        (True, 5, (5, False), "estopped", StopState.FREE),
        (True, 5, (0, False), "running", StopState.STOPPING),
        (False, 6, (5, True), "estopped", StopState.RELEASING),
        (False, 6, (6, False), "running", StopState.FREE),
        (False, 6, (7, True), "estopped", StopState.STOPPED),
        (False, 6, None, "running", StopState.FREE),
    ],
)
def test_what_is_seen_is_what_was_asked_and_what_the_robot_said(wanted, number, told, said, expected):
    word = RobotStop(robot_id="robot-1", number=number, wanted=wanted, asked_by="user:ada")
    heartbeat = {"state": said, "estop": told and {"wish": told[0], "holds": told[1]}}
    assert seen(word, heartbeat).state is expected


def test_nothing_is_seen_of_a_robot_that_never_spoke():
    assert seen(None, None).state is StopState.FREE


@pytest.mark.parametrize("told", [{"wish": 2**53, "holds": True}, {"wish": -1, "holds": True}, {"wish": 1}])
async def test_a_wrong_word_of_the_robot_is_named(robot, told):
    answer = await robot.heartbeat(estop=told)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"].startswith("estop.")
