"""What was written while the server's clock was a year ahead does not hold for a year once it is right again."""

import pytest
from sqlalchemy import text

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import Role
from lefleet_server.jobs import queue

ROBOT = "/api/v1/robots/robot-1"


@pytest.fixture
def put_ahead(services):
    """`put_ahead("jobs", "run_after", "3 hours")`: all its rows, as a clock that was ahead would have written them."""

    async def move(table: str, column: str, by: str = "400 days") -> None:
        async with services.db.transaction() as session:
            await session.execute(text(f"UPDATE {table} SET {column} = now() + interval '{by}'"))  # noqa: S608 - ours

    return move


async def claim(services, name: str = "a") -> queue.Claimed | None:
    async with services.db.transaction() as session:
        return await queue.claim(session, name, f"worker-{name}")


async def test_a_job_waits_no_longer_than_its_attempts_are_a_reason_for(services, robot, episode_file, put_ahead):
    await robot.upload(episode_file())
    await put_ahead("jobs", "run_after", "10 seconds")
    job = await claim(services)
    assert job is not None, "it never failed, so there is nothing to wait for"
    async with services.db.transaction() as session:
        assert await queue.fail(session, job, "no luck", 5) == "queued"
    assert await claim(services) is None
    await put_ahead("jobs", "run_after", "3 hours")
    assert (await claim(services)).attempts == 2


async def test_a_worker_that_died_then_has_its_job_taken_over(services, robot, episode_file, put_ahead):
    await robot.upload(episode_file())
    await claim(services)
    async with services.db.transaction() as session:
        assert not await queue.take_over(session, 30, 5), "it lives"
    await put_ahead("jobs", "heartbeat_at")
    async with services.db.transaction() as session:
        assert [state for _, state in await queue.take_over(session, 30, 5)] == ["queued"]


async def test_failed_log_ins_lock_nobody_out(services, connect, put_ahead):
    async with services.db.transaction() as session:
        await accounts.put_user(session, "alice", Role.OPERATOR, "a long password", "test")
    async with connect() as client:
        for _ in range(services.settings.login_attempts):
            await client.post("/api/v1/login", json={"username": "alice", "password": "guess"})
        right = {"username": "alice", "password": "a long password"}
        assert (await client.post("/api/v1/login", json=right)).status_code == 429
        await put_ahead("login_failures", "at")
        assert (await client.post("/api/v1/login", json=right)).status_code == 204


async def test_a_robot_that_spoke_then_and_is_silent_now_is_offline(robot, operator, put_ahead):
    await robot.heartbeat()
    assert (await operator.get(ROBOT)).json()["online"]
    await put_ahead("robot_status", "received_at")
    assert not (await operator.get(ROBOT)).json()["online"]
    await robot.heartbeat()
    assert (await operator.get(ROBOT)).json()["online"]


async def test_a_robot_that_was_looked_at_then_is_not_looked_at_for_ever(services, robot, put_ahead):
    await services.watches.watch("robot-1")
    assert (await robot.heartbeat()).json()["watched"]
    await put_ahead("robot_watches", "until")
    services.watches.forget()
    assert not (await robot.heartbeat()).json()["watched"]


async def test_a_reboot_that_was_asked_for_then_is_void(robot, operator, put_ahead):
    await robot.heartbeat(orders={"reboot": 0}, uptime_s=9000.0)
    (await operator.post(f"{ROBOT}/reboot")).raise_for_status()
    await put_ahead("robot_orders", "said_at")
    params = {"since": 0, "wait_s": 0, "reboot_since": 0}
    assert (await robot.http.get("/api/v1/robot/wishes", params=params)).json()["reboot"] is None
    assert (await operator.get(ROBOT)).json()["reboot"]["state"] == "void"
    assert (await operator.post(f"{ROBOT}/reboot")).status_code == 200, "somebody may ask anew"


@pytest.mark.parametrize("store", ["s3"])
async def test_an_upload_whose_process_died_then_goes_on(services, robot, episode_file, put_ahead):
    path = episode_file()
    url = (await robot.announce(path.read_bytes(), path.stem)).headers["location"]
    async with services.incoming.locked(url.rsplit("/", 1)[1]):
        assert (await robot.send(url, path.read_bytes())).status_code == 423
        await put_ahead("uploads", "held_until")
        assert (await robot.send(url, path.read_bytes())).status_code == 204
