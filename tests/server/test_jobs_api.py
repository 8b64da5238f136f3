"""Jobs over HTTP: paged, with why they failed, and given another chance by an operator, which the audit log keeps."""

import pytest

from lefleet_server.accounts.models import Role
from lefleet_server.jobs import queue, service

JOBS = "/api/v1/jobs"


@pytest.fixture
async def jobs(robot, episode_file, services):
    """Five queued, of which the first two are dead; their numbers."""
    for ticks in range(12, 17):
        assert (await robot.upload(episode_file(ticks=ticks))).is_success
    for claim in ("a", "b"):
        async with services.db.transaction() as session:
            job = await queue.claim(session, claim, "worker-1")
            assert await queue.fail(session, job, "the disk is full", 1) == "dead"
    async with services.db.session() as session:
        return [job.id for job in (await service.list_jobs(session, None, 100)).items]


async def test_pages_hold_every_job_once_oldest_first(jobs, operator):
    seen, cursor = [], {}
    while True:
        page = (await operator.get(JOBS, params={"limit": 2, **cursor})).json()
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [job["id"] for job in seen] == jobs
    assert {job["state"] for job in seen[:2]} == {"dead"}
    assert {job["reason"] for job in seen} == {"the disk is full", None}
    dead = (await operator.get(JOBS, params={"state": "dead"})).json()["items"]
    assert [job["id"] for job in dead] == jobs[:2]
    assert (await operator.get(JOBS, params={"state": "lost"})).status_code == 422


async def test_an_operator_retries_dead_jobs_and_the_log_says_so(jobs, operator, person):
    admin = await person(Role.ADMIN)
    assert (await operator.post(f"{JOBS}/retry", json={"ids": [jobs[0], jobs[4]]})).json() == {"retried": 1}
    assert (await operator.post(f"{JOBS}/retry", json={})).json() == {"retried": 1}
    left = (await operator.get(JOBS)).json()["items"]
    assert [(job["state"], job["attempts"]) for job in left] == [("queued", 0)] * 5
    entries = (await admin.get("/api/v1/audit", params={"action": "jobs"})).json()["items"]
    assert [entry["detail"] for entry in entries] == [
        {"jobs": "all that were dead", "retried": 1},
        {"jobs": [jobs[0], jobs[4]], "retried": 1},
    ]
    assert entries[0]["actor"].startswith("user:operator-")
    await admin.aclose()
