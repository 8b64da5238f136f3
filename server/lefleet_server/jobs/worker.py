"""Does jobs, several at a time, until told to stop. Any number of workers on any number of machines share a queue."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import asyncpg  # type: ignore[import-untyped]
import structlog
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.config import Settings
from lefleet_server.db import FAILURES, Database, connection_arguments
from lefleet_server.jobs import queue
from lefleet_server.jobs.pauses import Pauses
from lefleet_server.jobs.queue import Claimed
from lefleet_server.metrics import Metrics
from lefleet_server.problems import NoSpace, Unavailable
from lefleet_server.storage import OtherBytesError

log = structlog.get_logger()

type Store = Callable[[AsyncSession], Awaitable[None]]
"""Writes a result inside the transaction that ends the job."""
type Handler = Callable[[Claimed], Awaitable[Store]]


class StaleResultError(Exception):
    """Raised by a Store: what it would tell of is there no more. The job is done again."""


_LOOK_S = 5.0
"""Between looks at the queue when nothing is heard: a notification is lost with its connection."""
_OWN_FAULTS = (DataError, IntegrityError, ProgrammingError, StaleResultError)
"""Asking again would fail again: the result is wrong, not the database away."""
_OF_THE_JOB = (*_OWN_FAULTS, FileNotFoundError, OtherBytesError)
_OF_THE_SERVER = (Unavailable, NoSpace, *FAILURES)
"""Store or database away, no space: says nothing about the job, and ends without it."""


@dataclass
class Worker:
    """`run()` returns after `stop()`, once what it was at is handed back."""

    settings: Settings
    db: Database
    handlers: Mapping[str, Handler]
    metrics: Metrics
    concurrency: int
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    pauses: Pauses = field(default_factory=Pauses)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _attempts: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        runners = [asyncio.create_task(self._work()) for _ in range(self.concurrency)]
        helpers = [asyncio.create_task(self._keep_alive()), asyncio.create_task(self._listen())]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            # A task that ends before it was told to has a fault of ours: the process ends and is started again.
            await asyncio.wait([stopping, *runners, *helpers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            for task in [stopping, *helpers, *runners]:
                task.cancel()
            ended = await asyncio.gather(*runners, *helpers, return_exceptions=True)
        for result in ended:
            if isinstance(result, Exception):
                raise result

    async def _work(self) -> None:
        while not self._stopping.is_set():
            self._news.clear()
            claim = uuid.uuid4().hex
            try:
                async with self.db.transaction() as session:
                    # Only what this release knows: while a fleet is updated, others have newer queues.
                    job = await queue.claim(session, claim, self.name, self.pauses.open(self.handlers))
            except FAILURES as error:
                await self._database_away("claim", error)
                continue
            if job is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), _LOOK_S)
                continue
            await self._attempt(job)

    async def _attempt(self, job: Claimed) -> None:
        began = time.monotonic()
        task = asyncio.create_task(self._handle(job))
        self._attempts[job.claim] = task
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            if self._stopping.is_set():
                await self._hand_back(job)
                raise
            self.metrics.jobs_ended.labels(job.queue, "lost").inc()
        finally:
            del self._attempts[job.claim]
            self.metrics.job_seconds.labels(job.queue).observe(time.monotonic() - began)

    async def _handle(self, job: Claimed) -> None:
        try:
            store = await self.handlers[job.queue](job)
            result = await self._settle("complete", lambda: self._complete(job, store))
        except _OF_THE_JOB as error:
            result = await self._fail(job, error)
        except _OF_THE_SERVER as error:
            result = await self._put_off(job, error)
        except Exception as error:  # noqa: BLE001 - top of a job: whatever it raises is its reason
            result = await self._fail(job, error)
        if result == "done" and self.pauses.end(job.queue, job.id):
            log.info("jobs of the queue succeed again", queue=job.queue)
        log.info("job ended", queue=job.queue, episode=job.episode_id, attempt=job.attempts, result=result)
        self.metrics.jobs_ended.labels(job.queue, result).inc()

    async def _complete(self, job: Claimed, store: Store) -> str:
        async with self.db.session() as session, session.begin() as transaction:
            if await queue.complete(session, job):
                await store(session)
                return "done"
            await transaction.rollback()
        return "lost"

    async def _fail(self, job: Claimed, error: Exception) -> str:
        reason = f"attempt {job.attempts}: {type(error).__name__}: {error}"
        log.warning("job failed", queue=job.queue, episode=job.episode_id, reason=reason[:500])

        async def work() -> str:
            async with self.db.transaction() as session:
                return await queue.fail(session, job, reason, self.settings.job_attempts) or "lost"

        found = await self._settle("fail", work)
        return {"queued": "failed"}.get(found, found)

    async def _put_off(self, job: Claimed, error: Exception) -> str:
        """It does not count, and the queue rests: an outage would otherwise go through all of it again and again."""
        reason = f"{type(error).__name__}: {error}"
        times = self.pauses.alone(job.id)
        if times:
            log.warning(
                "job put off; others of its queue succeed",
                queue=job.queue,
                episode=job.episode_id,
                times=times,
                reason=reason[:500],
            )
        elif self.pauses.begin(job.queue, job.id):
            log.warning("the server's own trouble; jobs of the queue wait", queue=job.queue, reason=reason[:500])

        async def work() -> str:
            async with self.db.transaction() as session:
                return "put_off" if await queue.put_off(session, job, reason, times) else "lost"

        return await self._settle("put off", work)

    async def _settle(self, step: str, work: Callable[[], Awaitable[str]]) -> str:
        """Does one of the last steps as soon as the database is there; another worker may have the job by then."""
        while True:
            try:
                return await work()
            except _OWN_FAULTS:
                raise
            except FAILURES as error:
                await self._database_away(step, error)

    async def _hand_back(self, job: Claimed) -> None:
        try:
            async with self.db.transaction() as session:
                await queue.hand_back(session, job)
            self.metrics.jobs_ended.labels(job.queue, "handed_back").inc()
            log.info("job handed back", queue=job.queue, episode=job.episode_id)
        except FAILURES as error:
            # Its heartbeat ends here, so another worker takes it over by itself.
            log.warning("job not handed back: the database does not answer", error=str(error)[:200])

    async def _keep_alive(self) -> None:
        """Signs of life for our attempts; an end for those of others that give none."""
        timeout_s = self.settings.job_heartbeat_timeout_s
        while True:
            claims = list(self._attempts)
            try:
                async with self.db.transaction() as session:
                    held = await queue.beat(session, claims) if claims else set()
                    lost = await queue.take_over(session, timeout_s, self.settings.job_attempts)
            except FAILURES as error:
                await self._database_away("heartbeat", error)
                continue
            for claim in set(claims) - held:
                if claim in self._attempts and self._attempts[claim].cancel():
                    log.warning("attempt broken off: another worker took the job over")
            for job_id, state in lost:
                log.warning("job of a silent worker taken over", job=job_id, state=state)
                self._news.set()
            await asyncio.sleep(timeout_s / 5)

    async def _listen(self) -> None:
        while True:
            try:
                connection = await asyncpg.connect(**connection_arguments(self.settings), timeout=10)
            except FAILURES as error:
                await self._database_away("listen", error)
                continue
            gone = asyncio.Event()
            connection.add_termination_listener(lambda _connection, gone=gone: gone.set())
            try:
                await connection.add_listener(queue.CHANNEL, lambda *_: self._news.set())
                self._news.set()  # whatever came while nobody listened
                await gone.wait()
            except FAILURES as error:
                await self._database_away("listen", error)
            finally:
                connection.terminate()

    async def _database_away(self, step: str, error: BaseException) -> None:
        log.warning("the database does not answer; trying again", step=step, error=str(error)[:200])
        await asyncio.sleep(1)
