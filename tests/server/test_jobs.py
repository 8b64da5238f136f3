"""The queue and the analysis: each job counts once, whoever dies, and a wrong file is seen, not lost."""

import asyncio
import errno
import json
import signal
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from sqlalchemy import text
from workers import Vanishing, left

from lefleet_server import analysis, previews
from lefleet_server.analysis import service as analyses
from lefleet_server.analysis.service import Analyser
from lefleet_server.config import Settings
from lefleet_server.episodes import bounded, stores
from lefleet_server.jobs import backlog, queue, service
from lefleet_server.jobs.pauses import LONGEST_S, Pauses
from lefleet_server.jobs.worker import Worker
from lefleet_server.storage import BlobStore

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


@asynccontextmanager
async def working(services, settings, analyser, pauses=None):
    handlers = {analysis.QUEUE: analyser}
    worker = Worker(settings, services.db, handlers, services.metrics, 2, pauses=pauses or Pauses())
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await running


async def until(services, is_so):
    """The jobs of the analysis, once they are so."""
    async with asyncio.timeout(60):
        while not is_so(found := await left(services, [analysis.QUEUE])):  # noqa: ASYNC110 - the table says it, no event does
            await asyncio.sleep(0.05)
    return found


async def make_due(services):
    """Time passes for the jobs that were put off."""
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE jobs SET run_after = now(), reason = NULL"))
        await session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": queue.CHANNEL})


async def run_until_empty(services, settings, analyser=None):
    """Until none is left but those that were given up."""
    async with working(services, settings, analyser or Analyser(services.db, services.blobs, 60)):
        return await until(services, lambda found: all(job.state == "dead" for job in found))


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
    assert await backlog.enqueue(services.db, [analyses.older()]) == 0
    assert await backlog.enqueue(services.db, [analyses.older(analysis.VERSION + 1)]) == 1


async def test_what_all_lack_is_queued_page_by_page(services, robot, episode_file, episode):
    others = [episode_file(ticks=13 + number) for number in range(4)]
    for path in others:
        assert (await robot.upload(path)).status_code == 204
    assert await backlog.size(services.db) == 5
    async with services.db.transaction() as session:
        await session.execute(text("DELETE FROM jobs WHERE episode_id <> :episode"), {"episode": episode})
    told = []
    assert await backlog.enqueue(services.db, [analyses.older()], told.append, most=2) == 4
    assert told == [2, 2, 1]
    assert {job.episode_id for job in await jobs(services)} == {episode, *(path.stem for path in others)}


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


@dataclass
class Outage:
    """A store that can be away."""

    blobs: BlobStore
    begin: Callable[[], object]
    end: Callable[[], object]


@pytest.fixture
def outage(store, services, settings, server_settings, object_stores, free_port, prefix, request):
    if store == "local":
        away = settings.blobs_dir.with_name("not-mounted")
        yield Outage(services.blobs, lambda: settings.blobs_dir.rename(away), lambda: away.rename(settings.blobs_dir))
        return
    server = request.getfixturevalue(store)
    proxy = object_stores.Proxy(free_port(), server.port)
    proxy.start()
    by_proxy = Settings(**server_settings | server.settings(prefix, proxy.address))
    blobs = stores.build(by_proxy, services.db, "worker").blobs
    yield Outage(blobs, lambda: setattr(proxy, "mode", "refuse"), lambda: setattr(proxy, "mode", "pass"))
    proxy.stop()


@pytest.mark.parametrize("store", ["local", "s3"])
async def test_an_outage_of_the_store_costs_a_job_none_of_its_attempts(services, settings, operator, episode, outage):
    settings = settings.model_copy(update={"job_attempts": 1})
    now_s = [0.0]

    async def time_passes():
        now_s[0] += LONGEST_S
        await make_due(services)

    outage.begin()
    analyser = Analyser(services.db, outage.blobs, 60)
    async with working(services, settings, analyser, Pauses(lambda: now_s[0])):
        for turn in range(3):
            (job,) = await until(services, lambda found: found[0].state == "dead" or found[0].reason)
            assert (job.state, job.attempts, "Unavailable" in job.reason or "StoreDown" in job.reason) == (
                "queued",
                0,
                True,
            )
            if turn == 2:
                outage.end()
            await time_passes()
        await until(services, lambda found: not found)
    assert (await operator.get(f"/api/v1/episodes/{episode}/analysis")).json()["state"] == "analysed"


async def test_what_is_put_off_waits_and_keeps_its_attempts(services, episode):
    for number in range(3):
        job = await take(services, str(number))
        assert job.attempts == 1
        async with services.db.transaction() as session:
            assert await queue.put_off(session, job, "the store is away") == "queued"
            assert await queue.put_off(session, job, "again") is None, "it is not held any more"
        assert await take(services) is None
        async with services.db.transaction() as session:
            await session.execute(text("UPDATE jobs SET run_after = now()"))


def test_a_queue_in_trouble_rests_longer_and_longer_until_a_job_succeeds():
    now_s, queues, waits = [0.0], ["analysis", "previews"], []
    pauses = Pauses(lambda: now_s[0])
    for turn in range(6):
        assert pauses.begin("analysis", turn) == (turn == 0), "logged once"
        began_s = now_s[0]
        while pauses.open(queues) == ["previews"]:
            assert not pauses.begin("analysis", turn), "what ended meanwhile was begun before"
            now_s[0] += 1
        waits.append(now_s[0] - began_s)
    assert waits == [2, 4, 8, 16, LONGEST_S, LONGEST_S]
    assert pauses.open(queues) == queues
    assert [pauses.end("analysis", 1), pauses.end("analysis", 1)] == [True, False]
    assert pauses.begin("analysis", 1)


def test_a_job_whose_trouble_others_do_not_share_makes_no_pause_and_waits_longer_and_longer():
    pauses = Pauses(lambda: 0.0)
    assert pauses.alone(1) == 0, "it may be everybody's"
    pauses.begin("analysis", 1)
    assert pauses.alone(1) == 0, "nobody succeeded since"
    pauses.end("previews", 2)
    assert pauses.alone(1) == 0, "another queue's success says nothing"
    pauses.end("analysis", 3)
    waits_s = [queue.put_off_s(pauses.alone(1)) for _ in range(8)]
    assert waits_s == [20, 40, 80, 160, 320, 640, 640, 640]
    assert pauses.open(["analysis"]) == ["analysis"]
    pauses.end("analysis", 1)
    assert queue.put_off_s(pauses.alone(1)) == 10


async def test_one_file_on_a_bad_sector_does_not_hold_up_the_others(
    services, settings, operator, robot, episode_file, episode
):
    class BadSector(Analyser):
        """The disk cannot read one of the episodes, and nothing else is wrong."""

        async def __call__(self, job):
            if job.episode_id == episode:
                raise OSError(errno.EIO, "Input/output error")
            return await super().__call__(job)

    now_s = [0.0]
    pauses = Pauses(lambda: now_s[0])
    async with working(services, settings, BadSector(services.db, services.blobs, 60), pauses):
        await until(services, lambda found: found[0].reason)
        now_s[0] += LONGEST_S
        good = episode_file()
        assert (await robot.upload(good)).status_code == 204
        await until(services, lambda found: [job.episode_id for job in found] == [episode])
        for _ in range(2):
            await make_due(services)
            (job,) = await until(services, lambda found: found[0].state == "queued" and found[0].reason)
            assert (job.attempts, pauses.open([analysis.QUEUE])) == (0, [analysis.QUEUE])
    async with services.db.session() as session:
        wait_s = await session.scalar(text("SELECT extract(epoch FROM run_after - now()) FROM jobs WHERE reason <> ''"))
    assert 20 < wait_s <= 40
    assert (await operator.get(f"/api/v1/episodes/{good.stem}/analysis")).json()["state"] == "analysed"


async def test_a_check_that_takes_too_long_is_a_failed_attempt_and_no_fault_of_the_episode(
    services, settings, operator, episode
):
    settings = settings.model_copy(update={"job_attempts": 1})
    (dead,) = await run_until_empty(services, settings, Analyser(services.db, services.blobs, 0.001))
    assert "LateError: could not be read within 0.001 s" in dead.reason
    assert (await operator.get(f"/api/v1/episodes/{episode}/analysis")).status_code == 404


async def test_a_file_that_the_host_cannot_read_is_a_failed_attempt_too(services, settings, operator, episode):
    settings = settings.model_copy(update={"job_attempts": 1})
    (dead,) = await run_until_empty(services, settings, Analyser(services.db, Vanishing(services.blobs.root), 60))
    assert "EndedEarlyError: cannot be read: FileNotFoundError" in dead.reason
    assert (await operator.get(f"/api/v1/episodes/{episode}/analysis")).status_code == 404


def test_a_processors_time_that_is_used_up_is_the_files_fault():
    with pytest.raises(bounded.TooSlowError) as raised:
        bounded.require_good_end(-signal.SIGXCPU)
    assert not isinstance(raised.value, bounded.LateError)


async def test_what_is_no_hdf5_file_is_wrong_whatever_the_library_says(tmp_path):
    path = tmp_path / "no-episode"
    path.write_bytes(b"no HDF5")
    assert "OSError" in json.loads(await bounded.ask("lefleet_server.analysis.process", path, timeout_s=60))["error"]


async def test_an_episode_whose_file_is_back_has_what_was_given_up_tried_again(services, settings, episode):
    async with services.db.transaction() as session:
        await queue.enqueue(session, previews.QUEUE, [episode], previews.VERSION)
        await session.execute(text("UPDATE jobs SET state = 'dead', attempts = 5"))
        await analyses.resume(session, episode)
    assert {(job.queue, job.state, job.attempts) for job in await jobs(services)} == {
        ("analysis", "queued", 0),
        ("previews", "queued", 0),
    }
    await run_until_empty(services, settings)
    async with services.db.transaction() as session:
        await analyses.resume(session, episode)
    assert [job.queue for job in await jobs(services)] == ["previews"], "it has its analysis"
