"""The queue and the analysis: each job counts once, whoever dies, and a wrong file is seen, not lost."""

import asyncio

import numpy as np
import pytest
from sqlalchemy import text

from lefleet_server import analysis
from lefleet_server.analysis import service as analyses
from lefleet_server.analysis.service import Analyser
from lefleet_server.jobs import queue, service
from lefleet_server.jobs.worker import Worker

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
async def episode(robot, episode_file):
    path = episode_file()
    assert (await robot.upload(path)).status_code == 204
    return path.stem


async def take(services, claim="a"):
    async with services.db.transaction() as session:
        return await queue.claim(session, claim, f"worker-{claim}")


async def jobs(services):
    async with services.db.session() as session:
        return (await service.list_jobs(session, None, 100)).items


async def run_until_empty(services, settings):
    handlers = {analysis.QUEUE: Analyser(services.db, services.blobs, 60)}
    worker = Worker(settings, services.db, handlers, services.metrics, 2)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(60):
        while any(job.queue == analysis.QUEUE for job in await jobs(services)):  # noqa: ASYNC110 - the table says it, no event does
            await asyncio.sleep(0.1)
    worker.stop()
    await running


async def test_a_receipt_brings_one_job_which_one_worker_gets(services, episode):
    first, second = await asyncio.gather(take(services, "a"), take(services, "b"))
    assert [job.episode_id for job in (first, second) if job] == [episode]


async def test_a_job_that_kills_its_workers_ends_dead_with_the_reason(services, episode):
    for number in range(3):
        assert (await take(services, str(number))).attempts == number + 1
        async with services.db.transaction() as session:
            await session.execute(text("UPDATE jobs SET heartbeat_at = now() - interval '1 hour'"))
            taken = await queue.take_over(session, 30, 3)
            await session.execute(text("UPDATE jobs SET run_after = now()"))
        assert taken[0][1] == ("dead" if number == 2 else "queued")
    (job,) = await jobs(services)
    assert "worker worker-2 gave no sign of life" in job.reason
    assert await take(services) is None
    async with services.db.transaction() as session:
        assert await queue.retry_dead(session, None) == 1
    assert (await take(services)).attempts == 1


async def test_a_worker_whose_job_was_taken_over_cannot_end_it(services, episode):
    late = await take(services, "late")
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE jobs SET heartbeat_at = now() - interval '1 hour'"))
        await queue.take_over(session, 30, 5)
    current = await take(services, "current")
    async with services.db.transaction() as session:
        assert not await queue.complete(session, late)
        assert await queue.fail(session, late, "late", 5) is None
        assert await queue.beat(session, ["late", "current"]) == {"current"}
        assert await queue.complete(session, current)


async def test_a_failure_waits_and_a_handed_back_job_does_not(services, episode):
    job = await take(services)
    async with services.db.transaction() as session:
        await queue.hand_back(session, job)
    job = await take(services)
    assert job.attempts == 1
    async with services.db.transaction() as session:
        assert await queue.fail(session, job, "no luck", 5) == "queued"
    assert await take(services) is None
    assert [queue.wait_s(n) for n in (1, 2, 3, 40)] == [2, 4, 8, 3600]


async def test_an_episode_is_analysed_and_its_job_is_gone(services, settings, operator, episode):
    address = f"/api/v1/episodes/{episode}/analysis"
    assert (await operator.get(address)).status_code == 404
    await run_until_empty(services, settings)
    found = (await operator.get(address)).json()
    assert (found["state"], found["version"]) == ("analysed", analysis.VERSION)
    assert found["statistics"]["cameras"]["front"]["pictures"] == 12
    # Noise for joints: the flags that noise must raise, and no other.
    assert {flag["name"] for flag in found["flags"]} == {"jerk", "saturation"}
    async with services.db.transaction() as session:
        assert await analyses.enqueue_older(session) == 0
        assert await analyses.enqueue_older(session, analysis.VERSION + 1) == 1


async def test_a_file_with_a_number_that_is_none_is_quarantined_and_can_be_found(
    services, settings, operator, robot, episode_file, episode
):
    def spoil(file):
        file["observations/qpos"][3, 2] = np.nan

    bad = episode_file(spoil)
    assert (await robot.upload(bad)).status_code == 204
    await run_until_empty(services, settings)
    found = (await operator.get(f"/api/v1/episodes/{bad.stem}/analysis")).json()
    assert found["state"] == "quarantined"
    assert "elbow is nan at tick 3" in found["reason"]
    for wanted, expected in (("true", bad.stem), ("false", episode)):
        page = (await operator.get("/api/v1/episodes", params={"quarantined": wanted})).json()
        assert [each["id"] for each in page["items"]] == [expected]
