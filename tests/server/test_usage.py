"""What the store holds, jobs over the API, and another check of an episode."""

import asyncio
import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import workers
from sqlalchemy import text

from lefleet_server import analysis
from lefleet_server.accounts.models import Role
from lefleet_server.analysis import FlagName, signals
from lefleet_server.jobs import queue

STORAGE = "/api/v1/storage"
JOBS = "/api/v1/jobs"


@pytest.fixture
async def admin(person):
    client = await person(Role.ADMIN, "root-admin")
    yield client
    await client.aclose()


@pytest.fixture
def analyse(services, settings):
    return partial(workers.analyse, services, settings)


async def kill(services, number):
    """Lets so many jobs fail for the last time; returns their numbers."""
    killed = []
    async with services.db.transaction() as session:
        for claim in map(str, range(number)):
            job = await queue.claim(session, claim, "worker-1")
            assert await queue.fail(session, job, "the disk is full", 1) == "dead"
            killed.append(job.id)
    return killed


async def test_storage_counts_episodes_by_robot_and_uploads_by_what_arrived(operator, robot, enrol, episode_file):
    other = await enrol("robot-2")
    mine = [episode_file(), episode_file(ticks=20)]
    for path in mine:
        assert (await robot.upload(path)).status_code == 204
    coming = episode_file(robot_id="robot-2")
    data = coming.read_bytes()
    place = (await other.announce(data, coming.stem)).headers["location"]
    await other.send(place, data[:1000])
    found = (await operator.get(STORAGE)).raise_for_status().json()
    size = sum(path.stat().st_size for path in mine)
    assert (found["episodes"], found["bytes"], found["lost"], found["quarantined"]) == (2, size, 0, 0)
    assert [(r["robot_id"], r["episodes"], r["bytes"]) for r in found["robots"]] == [("robot-1", 2, size)]
    (upload,) = found["uploads"]
    assert (upload["episode_id"], upload["bytes"], upload["arrived_bytes"]) == (coming.stem, len(data), 1000)
    assert found["uploads_open"] == 1
    assert found["place"]["kind"] == "file" and found["place"]["state"] == "ok"
    assert 0 < found["place"]["free_bytes"] < found["place"]["total_bytes"]
    await other.http.aclose()


async def test_what_is_deleted_is_stored_no_more(operator, admin, robot, episode_file):
    paths = [episode_file(), episode_file(ticks=20)]
    for path in paths:
        assert (await robot.upload(path)).status_code == 204
    for path, left in zip(paths, ([paths[1].stat().st_size], []), strict=True):
        gone = await admin.delete(f"/api/v1/episodes/{path.stem}", params={"reason": "a test"})
        assert gone.is_success, gone.text
        found = (await operator.get(STORAGE)).json()
        assert [each["bytes"] for each in found["robots"]] == left
        assert (found["episodes"], found["bytes"]) == (len(left), sum(left))


async def test_a_lost_file_and_the_last_fsck_are_told(operator, admin, robot, episode_file, stored, server_config):
    assert (await operator.get(STORAGE)).json()["last_check"] is None
    assert (await robot.upload(episode_file())).status_code == 204
    (blob,) = stored("blobs")
    blob.unlink()
    command = [sys.executable, "-m", "lefleet_server", "fsck", "--repair", "--json", "--config", str(server_config)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 3 and json.loads(done.stdout)["remaining"] == 1
    found = (await operator.get(STORAGE)).json()
    assert (found["episodes"], found["bytes"], found["lost"]) == (1, 0, 1)
    check = found["last_check"]
    assert (check["found"], check["remaining"], check["repair"], check["deep"]) == (1, 1, True, False)
    (entry,) = (await admin.get("/api/v1/audit", params={"subject": "store"})).json()["items"]
    assert (entry["actor"], entry["detail"]["counts"]) == ("console", {"missing": 1})


async def test_jobs_are_paged_and_told_by_state(operator, services, robot, episode_file):
    for ticks in range(12, 17):
        assert (await robot.upload(episode_file(ticks=ticks))).status_code == 204
    dead = await kill(services, 2)
    first = (await operator.get(JOBS, params={"limit": 3})).json()
    rest = (await operator.get(JOBS, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    numbers = [job["id"] for job in first["items"] + rest["items"]]
    assert numbers == sorted(numbers) and len(set(numbers)) == 5
    assert rest["next_cursor"] is None
    (depth,) = first["queues"]
    assert (depth["waiting"], depth["running"], depth["dead"]) == (3, 0, 2)
    found = (await operator.get(JOBS, params={"state": "dead"})).json()["items"]
    assert [(job["id"], job["reason"]) for job in found] == [(number, "the disk is full") for number in dead]


async def test_a_retry_revives_those_named_and_leaves_one_entry(operator, admin, services, robot, episode_file):
    for ticks in (12, 13, 14):
        assert (await robot.upload(episode_file(ticks=ticks))).status_code == 204
    dead = await kill(services, 2)
    assert (await operator.post(f"{JOBS}/retry", json={"ids": [dead[0], 999999]})).json() == {"retried": 1}
    assert (await operator.post(f"{JOBS}/retry", json={"ids": [dead[0]]})).json() == {"retried": 0}
    assert (await operator.post(f"{JOBS}/retry", json={})).json() == {"retried": 1}
    assert (await operator.post(f"{JOBS}/retry", json={"ids": []})).status_code == 422
    entries = (await admin.get("/api/v1/audit", params={"action": "jobs.retried"})).json()["items"]
    assert [entry["detail"]["retried"] for entry in entries] == [1, 1]


async def test_another_check_lets_a_right_file_out_of_quarantine(operator, services, robot, episode_file, analyse):
    path = episode_file()
    assert (await robot.upload(path)).status_code == 204
    await analyse()
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE episode_analysis SET state = 'quarantined', reason = 'it took too long'"))
    assert (await operator.post(f"/api/v1/episodes/{path.stem}/analysis")).status_code == 202
    assert (await operator.get(f"/api/v1/episodes/{path.stem}/analysis")).json()["state"] == "quarantined"
    await analyse()
    assert (await operator.get(f"/api/v1/episodes/{path.stem}/analysis")).json()["state"] == "analysed"
    assert (await operator.post(f"/api/v1/episodes/{'0' * 32}/analysis")).status_code == 404


async def test_another_check_revives_a_job_that_was_given_up(operator, services, robot, episode_file):
    path = episode_file()
    assert (await robot.upload(path)).status_code == 204
    await kill(services, 1)
    assert (await operator.post(f"/api/v1/episodes/{path.stem}/analysis")).status_code == 202
    (job,) = await workers.left(services, [analysis.QUEUE])
    assert (job.state, job.attempts) == ("queued", 0)


async def test_a_file_that_is_wrong_stays_in_quarantine(operator, robot, episode_file, analyse):
    def spoil(file):
        file["action"][1, 0] = np.inf

    path = episode_file(spoil)
    assert (await robot.upload(path)).status_code == 204
    await analyse()
    await operator.post(f"/api/v1/episodes/{path.stem}/analysis")
    await analyse()
    assert (await operator.get(f"/api/v1/episodes/{path.stem}/analysis")).json()["state"] == "quarantined"


async def test_episodes_are_found_by_their_flags(operator, robot, episode_file, analyse):
    noisy = episode_file()
    assert (await robot.upload(noisy)).status_code == 204
    await analyse()
    for flag, expected in (("jerk", [noisy.stem]), ("saturation", [noisy.stem]), ("camera_dark", [])):
        page = (await operator.get("/api/v1/episodes", params={"flag": flag})).json()
        assert [each["id"] for each in page["items"]] == expected
    assert (await operator.get("/api/v1/episodes", params={"flag": "ugly"})).status_code == 422


def test_every_flag_that_can_be_set_has_its_name():
    measured = {
        "dropped_share": 1.0,
        "longest_gap_s": 9.0,
        "idle_share": 1.0,
        "joints": {"elbow": {"jerk_p95": 1e9, "clipped_share": 1.0}},
        "cameras": {"front": {"longest_frozen_s": 9.0, "luma_median": 0.0}},
    }
    assert [flag["name"] for flag in signals.flags(measured, 30.0)] == [
        "dropped_frames",
        "stall",
        "idle",
        "jerk",
        "saturation",
        "camera_frozen",
        "camera_dark",
    ]
    assert {flag["name"] for flag in signals.flags(measured, 30.0)} == set(FlagName)
