"""A person ends the episode that runs, from the dashboard: who may, which episode, and when the robot hears of it."""

import asyncio

import pytest
from sqlalchemy import select

from lefleet_server.accounts.models import Role
from lefleet_server.audit.models import AuditEntry

ROBOT = "/api/v1/robots/robot-1"
VERDICT = f"{ROBOT}/verdict"
WISHES = "/api/v1/robot/wishes"
FIRST, SECOND = "a1" * 16, "a2" * 16


@pytest.fixture
async def operator(person):
    client = await person(Role.OPERATOR, "ada")
    yield client
    await client.aclose()


def word(episode_id: str = FIRST, word: str = "success") -> dict:
    return {"episode_id": episode_id, "word": word}


async def heard(robot, since: int | None = 0, wait_s: float = 10) -> dict | None:
    params = {"since": 0, "wait_s": wait_s} | ({} if since is None else {"verdict_since": since})
    return (await robot.http.get(WISHES, params=params)).raise_for_status().json()["verdict"]


async def test_a_word_reaches_the_robot_at_once_and_is_in_the_audit_log(robot, operator, services):
    await robot.heartbeat(state="running", episode_id=FIRST)
    waiting = asyncio.create_task(heard(robot, wait_s=30))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    said = (await operator.put(VERDICT, json=word())).raise_for_status().json()
    assert await asyncio.wait_for(waiting, 15) == said
    assert (said["episode_id"], said["word"], said["said_by"]) == (FIRST, "success", "user:ada")
    assert (await operator.get(ROBOT)).json()["verdict"] == said
    assert await heard(robot, since=said["number"], wait_s=0.3) == said, "after the wait: there is no newer one"
    async with services.db.session() as session:
        entry = (await session.scalars(select(AuditEntry).where(AuditEntry.action == "robot.verdict"))).one()
    assert (entry.actor, entry.subject) == ("user:ada", "robot:robot-1")
    assert entry.detail == {"episode_id": FIRST, "outcome": "success"}


async def test_the_newest_of_two_words_counts_and_is_shown_only_while_its_episode_runs(robot, operator):
    await robot.heartbeat(state="running", episode_id=FIRST)
    first = (await operator.put(VERDICT, json=word())).json()
    second = (await operator.put(VERDICT, json=word(word="redo"))).json()
    assert second["number"] > first["number"]
    assert await heard(robot, since=first["number"]) == second
    await robot.heartbeat(state="running", episode_id=SECOND)
    assert (await operator.get(ROBOT)).json()["verdict"] is None


@pytest.mark.parametrize("running", [SECOND, None])
async def test_a_word_about_an_episode_that_does_not_run_is_refused_and_says_what_to_do(robot, operator, running):
    await robot.heartbeat(state="running", episode_id=running)
    refused = await operator.put(VERDICT, json=word())
    assert refused.status_code == 409
    assert f"{FIRST} does not run on robot-1" in refused.json()["detail"] and "label it" in refused.json()["detail"]
    assert await heard(robot, wait_s=0.5) is None


async def test_a_robot_that_never_spoke_and_one_that_does_not_exist(robot, operator):
    assert (await operator.put(VERDICT, json=word())).status_code == 409
    assert (await operator.put("/api/v1/robots/none/verdict", json=word())).status_code == 404


@pytest.mark.parametrize("body", [{}, word(word="splendid"), word(episode_id="../x"), {"episode_id": FIRST}])
async def test_a_word_that_is_none_is_refused(robot, operator, body):
    await robot.heartbeat(state="running", episode_id=FIRST)
    assert (await operator.put(VERDICT, json=body)).status_code == 422


async def test_a_viewer_may_not_end_an_episode(robot, person):
    viewer = await person(Role.VIEWER)
    await robot.heartbeat(state="running", episode_id=FIRST)
    assert (await viewer.put(VERDICT, json=word())).status_code == 403
    assert await heard(robot, wait_s=0.5) is None
    await viewer.aclose()


async def test_a_robot_of_the_release_before_waits_for_stops_alone(robot, operator):
    await robot.heartbeat(state="running", episode_id=FIRST)
    await operator.put(VERDICT, json=word())
    waiting = asyncio.create_task(heard(robot, since=None, wait_s=30))
    await asyncio.sleep(1)
    assert not waiting.done(), "it would ask again and again"
    await operator.put(f"{ROBOT}/estop")
    await asyncio.wait_for(waiting, 15)
