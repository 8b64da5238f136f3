"""Workers that do what waits: checks and previews, by the product's own handlers."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from lefleet_server import analysis, previews
from lefleet_server.analysis.service import Analyser
from lefleet_server.config import Settings
from lefleet_server.episodes import stores
from lefleet_server.jobs import service as jobs
from lefleet_server.jobs.models import Job
from lefleet_server.jobs.worker import Worker
from lefleet_server.previews.service import Previewer
from lefleet_server.services import Services
from lefleet_server.storage.local import LocalBlobs

BOTH = (analysis.QUEUE, previews.QUEUE)


class Vanishing(LocalBlobs):
    """A store whose files are gone by the time that they are read."""

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        async with super().local(sha256) as path:
            yield path.with_name("gone")


async def left(services: Services, queues: Collection[str]) -> list[Job]:
    """The jobs of these queues that are not done."""
    async with services.db.session() as session:
        return [job for job in (await jobs.list_jobs(session, None, 100)).items if job.queue in queues]


async def run_until_empty(
    services: Services,
    settings: Settings,
    workers: int = 1,
    timeout_s: float = 60.0,
    queues: Collection[str] = BOTH,
) -> None:
    """Until no job of these queues is left but those that were given up. `timeout_s`: of a camera's previews."""

    def worker(number: int) -> Worker:
        handlers = {
            analysis.QUEUE: Analyser(services.db, services.blobs, 60),
            previews.QUEUE: Previewer(services.db, services.blobs, stores.making(settings), timeout_s),
        }
        mine = {queue: handlers[queue] for queue in queues}
        return Worker(settings, services.db, mine, services.metrics, 1, f"worker-{number}")

    made = [worker(number) for number in range(workers)]
    running = [asyncio.create_task(worker.run()) for worker in made]
    async with asyncio.timeout(200):
        while any(job.state != "dead" for job in await left(services, queues)):  # noqa: ASYNC110 - the table says it, no event does
            await asyncio.sleep(0.1)
    for worker in made:
        worker.stop()
    await asyncio.gather(*running)


async def analyse(services: Services, settings: Settings) -> None:
    """All checks are done, and none was given up; nobody makes previews."""
    await run_until_empty(services, settings, queues=[analysis.QUEUE])
    assert not await left(services, [analysis.QUEUE])
