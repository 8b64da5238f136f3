"""People rest a robot and give it a task from afar: who may, what the robot hears, what people see of it."""

import asyncio

import pytest
from sqlalchemy import select

from lefleet_server.accounts.models import Role
from lefleet_server.audit.models import AuditEntry

ROBOT = "/api/v1/robots/robot-1"
REST, TASK = f"{ROBOT}/rest", f"{ROBOT}/task"
WISHES = "/api/v1/robot/wishes"


@pytest.fixture
async def operator(person):
    client = await person(Role.OPERATOR, "ada")
    yield client
    await client.aclose()


async def heard(robot, wait_s: float = 10, **since: int) -> dict:
    answer = await robot.http.get(WISHES, params={"since": 0, "wait_s": wait_s} | since)
    return answer.raise_for_status().json()


async def of_robot(operator, what: str) -> dict | None:
    return (await operator.get(ROBOT)).raise_for_status().json()[what]


async def test_rest_reaches_the_robot_at_once_and_people_see_how_far_it_got(robot, operator, services):
    await robot.heartbeat(state="running")
    assert await of_robot(operator, "rest") is None
    waiting = asyncio.create_task(heard(robot, wait_s=30, rest_since=0))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    said = (await operator.put(REST)).raise_for_status().json()
    assert (said["wanted"], said["heard"], said["said_by"]) == (True, False, "user:ada")
    wish = (await asyncio.wait_for(waiting, 15))["rest"]
    assert wish["wanted"]
    await robot.heartbeat(state="drained", orders={"rest": wish["number"], "rests": True})
    assert (await of_robot(operator, "rest"))["heard"]
    again = (await operator.delete(REST)).raise_for_status().json()
    assert not again["wanted"]
    newer = (await heard(robot, rest_since=wish["number"]))["rest"]
    assert newer["number"] > wish["number"] and not newer["wanted"]
    async with services.db.session() as session:
        entries = await session.scalars(
            select(AuditEntry).where(AuditEntry.action == "robot.rest").order_by(AuditEntry.id)
        )
        assert [(each.actor, each.subject, each.detail) for each in entries] == [
            ("user:ada", "robot:robot-1", {"rest": True}),
            ("user:ada", "robot:robot-1", {"rest": False}),
        ]


async def test_a_rest_that_was_ended_at_the_robot_is_not_shown_as_wanted(robot, operator):
    await robot.heartbeat(state="running")
    await operator.put(REST)
    number = (await heard(robot, rest_since=0))["rest"]["number"]
    await robot.heartbeat(state="running", orders={"rest": number, "rests": False})
    assert await of_robot(operator, "rest") | {"said_at": ""} == {
        "wanted": False, "heard": True, "said_by": "user:ada", "said_at": "", "reason": "",
    }  # fmt: skip


async def test_why_a_robot_rests_is_kept_until_the_next_word(robot, operator, services):
    said = (await operator.put(REST, json={"reason": "  a new gripper "})).raise_for_status().json()
    assert said["reason"] == "a new gripper" == (await of_robot(operator, "rest"))["reason"]
    assert (await operator.put(REST)).json()["reason"] == ""
    assert (await operator.put(REST, json={"reason": "x" * 301})).status_code == 422
    async with services.db.session() as session:
        found = await session.scalars(select(AuditEntry.detail).where(AuditEntry.action == "robot.rest"))
        assert sorted(found, key=len) == [{"rest": True}, {"rest": True, "reason": "a new gripper"}]


async def test_a_task_is_given_and_taken_back(robot, operator, services):
    await robot.heartbeat(state="running", task="stack")
    said = (await operator.put(TASK, json={"text": "  sort the bolts "})).raise_for_status().json()
    assert (said["text"], said["heard"]) == ("sort the bolts", False)
    wish = (await heard(robot, task_since=0))["task"]
    assert wish["text"] == "sort the bolts"
    await robot.heartbeat(state="running", orders={"task": wish["number"]})
    assert (await of_robot(operator, "task"))["heard"]
    await operator.put(TASK, json={"text": None})
    back = (await heard(robot, task_since=wish["number"]))["task"]
    assert back["text"] is None and back["number"] > wish["number"]
    assert (await of_robot(operator, "task"))["text"] is None
    async with services.db.session() as session:
        found = await session.scalars(select(AuditEntry.detail).where(AuditEntry.action == "robot.task"))
        assert sorted(found, key=str) == [{"task": "sort the bolts"}, {"task": None}]


async def test_a_word_is_newer_than_what_the_robot_obeyed_also_after_a_restore(robot, operator):
    ahead = 1 << 52  # from a server whose clock was wrong, or whose database was restored since
    await robot.heartbeat(state="running", orders={"rest": ahead, "rests": False})
    await operator.put(REST)
    assert (await heard(robot, rest_since=ahead))["rest"]["number"] > ahead


@pytest.mark.parametrize("text", ["", "  ", "x" * 501, 7, "a\x00b"])
async def test_a_task_that_says_nothing_or_too_much_is_refused(robot, operator, text):
    assert (await operator.put(TASK, json={"text": text})).status_code == 422
    assert (await operator.put(TASK, json={})).status_code == 422


async def test_viewers_order_nothing_and_nobody_a_robot_that_is_none_or_retired(robot, operator, person, services):
    viewer, admin = await person(Role.VIEWER), await person(Role.ADMIN)
    answers = [await viewer.put(REST), await viewer.delete(REST), await viewer.put(TASK, json={"text": "x"})]
    assert [answer.status_code for answer in answers] == [403] * 3
    assert (await operator.put("/api/v1/robots/none/rest")).status_code == 404
    (await admin.delete(f"{ROBOT}/credential")).raise_for_status()
    refused = await operator.put(REST)
    assert refused.status_code == 409 and "robot-1 is retired" in refused.json()["detail"]
    await viewer.aclose()
    await admin.aclose()


async def test_a_robot_of_the_release_before_is_not_woken_again_and_again(robot, operator):
    await operator.put(REST)
    await operator.put(TASK, json={"text": "sort"})
    waiting = asyncio.create_task(heard(robot, wait_s=30))
    await asyncio.sleep(1)
    assert not waiting.done()
    await operator.put(f"{ROBOT}/estop")
    await asyncio.wait_for(waiting, 15)
