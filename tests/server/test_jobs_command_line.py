"""The queue from outside: `lefleet-server jobs` and `worker` as people call them, and what Prometheus reads."""

import asyncio
import json
import signal
import subprocess
import sys

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lefleet_server import analysis
from lefleet_server.jobs import queue


@pytest.fixture
def run(server_config):
    """Runs one of the server's commands; returns (exit status, output, errors)."""

    async def command(*words: object) -> tuple[int, str, str]:
        arguments = [sys.executable, "-m", "lefleet_server", *map(str, words), "--config", str(server_config)]
        done = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, errors = await asyncio.wait_for(done.communicate(), 120)
        return done.returncode, output.decode(), errors.decode()

    return command


@pytest.fixture
def answer(run):
    """What a command prints with --json."""

    async def command(*words: object) -> dict:
        status, output, errors = await run(*words, "--json")
        assert status == 0, errors
        return json.loads(output)

    return command


@pytest.fixture
async def episodes(robot, episode_file):
    """Two, received and queued, in the order of their jobs."""
    paths = [episode_file(), episode_file(ticks=13)]
    for path in paths:
        assert (await robot.upload(path)).status_code == 204
    return [path.stem for path in paths]


async def kill(services, number: int) -> None:
    """Lets so many jobs fail for the last time."""
    for claim in map(str, range(number)):
        async with services.db.transaction() as session:
            job = await queue.claim(session, claim, "worker-1")
            assert await queue.fail(session, job, "the disk is full", 1) == "dead"


async def test_jobs_are_listed_with_why_they_failed(services, episodes, run, answer):
    names = {"queue": "analysis", "version": analysis.VERSION, "worker": None, "reason": None}
    jobs = (await answer("jobs", "list"))["items"]
    assert [job.pop("episode_id") for job in jobs] == episodes
    assert [job | names for job in jobs] == jobs
    assert [(job["state"], job["attempts"]) for job in jobs] == [("queued", 0)] * 2
    assert await answer("jobs", "list", "--dead") == {"items": []}
    await kill(services, 1)
    (dead,) = (await answer("jobs", "list", "--dead"))["items"]
    assert dead | {"state": "dead", "attempts": 1, "worker": "worker-1", "reason": "the disk is full"} == dead
    assert [job["id"] for job in (await answer("jobs", "list", "--limit", 1))["items"]] == [dead["id"]]
    status, output, _ = await run("jobs", "list", "--dead")
    assert (status, output) == (0, f"{dead['id']}  analysis  {dead['episode_id']}  dead  the disk is full\n")


async def test_dead_jobs_are_queued_again_by_number_or_all(services, episodes, answer):
    await kill(services, 2)
    first, second = [job["id"] for job in (await answer("jobs", "list", "--dead"))["items"]]
    assert await answer("jobs", "retry", first + second) == {"retried": 0}
    assert await answer("jobs", "retry", first) == {"retried": 1}
    assert [job["id"] for job in (await answer("jobs", "list", "--dead"))["items"]] == [second]
    assert await answer("jobs", "retry") == {"retried": 1}
    jobs = (await answer("jobs", "list"))["items"]
    assert [(job["state"], job["attempts"]) for job in jobs] == [("queued", 0)] * 2


async def test_what_has_no_analysis_is_queued_once(services, episodes, run, answer):
    enqueue = ("jobs", "enqueue", "--all-older-than-version")
    assert await answer(*enqueue) == {"enqueued": 0}
    async with services.db.transaction() as session:
        assert await queue.complete(session, await queue.claim(session, "a", "worker-1"))
    assert [await answer(*enqueue) for _ in range(2)] == [{"enqueued": 1}, {"enqueued": 0}]
    status, _, errors = await run("jobs", "enqueue")
    assert status == 2 and "--all-older-than-version" in errors


def numbers(text: str) -> dict[tuple[str, str], float]:
    """The samples about jobs in a page of metrics: (name, result or queue) -> value."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = [sample for sample in samples if sample.labels.get("queue") == "analysis" and "le" not in sample.labels]
    return {(each.name, each.labels.get("result", "analysis")): each.value for each in found}


async def test_the_api_shows_the_queue_and_a_worker_what_it_did(
    services, anonymous, episodes, server_config, server_settings, run
):
    port = server_settings["port"]  # the API answers here without one

    async def queue_of_the_api() -> dict[str, float]:
        return {name: value for (name, _), value in numbers((await anonymous.get("/metrics")).text).items()}

    assert (before := await queue_of_the_api())["lefleet_jobs_queue_depth"] == 2
    assert before["lefleet_job_oldest_age_seconds"] > 0
    assert before["lefleet_jobs_dead"] == 0
    await kill(services, 1)
    before = await queue_of_the_api()
    assert (before["lefleet_jobs_queue_depth"], before["lefleet_jobs_dead"]) == (1, 1)

    words = ("worker", "--metrics-port", str(port), "--config", str(server_config))
    worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "lefleet_server", *words)
    try:
        async with asyncio.timeout(120):
            while (after := await queue_of_the_api())["lefleet_jobs_queue_depth"]:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)
            assert (after["lefleet_jobs_dead"], after["lefleet_job_oldest_age_seconds"]) == (1, 0)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                # The counter comes after the transaction that ends the job.
                seconds = ("lefleet_job_seconds_count", "analysis")
                while (did := numbers((await client.get("/metrics")).text)).get(seconds) != 1:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.1)
        assert did["lefleet_jobs_ended_total", "done"] == 1
        assert did["lefleet_job_seconds_sum", "analysis"] > 0
        status, _, errors = await run("worker", "--metrics-port", port)
        assert status == 1
        assert f"worker_metrics_port: {port} on 127.0.0.1: Address already in use; choose another one" in errors
    finally:
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 60) == 0
