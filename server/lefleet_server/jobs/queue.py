"""The queue's steps, each one statement: enqueue, claim, sign of life, and the five ways an attempt ends.

An attempt belongs to whoever holds its claim. Every step after the claim names it and says whether it was still held;
a result is stored in the same transaction as `complete`, so it counts once or not at all.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, case, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.jobs.models import Job

CHANNEL = "lefleet_jobs"
"""LISTEN here to hear of new work at once."""
LATER = 10
"""Priority of work done over: behind what just arrived (0)."""
_LONGEST_WAIT_S = 3600.0
_PUT_OFF_S = 10.0
_LONGEST_PUT_OFF_S = 640.0


@dataclass(frozen=True, slots=True)
class Claimed:
    """One attempt at one job."""

    id: int
    queue: str
    episode_id: str
    version: int
    attempts: int
    """This one included."""
    claim: str


@dataclass(frozen=True, slots=True)
class Depth:
    """How a queue is."""

    queue: str
    waiting: int
    """Queued or running."""
    running: int
    dead: int
    oldest_age_s: float
    """Since the oldest that is not dead was queued; 0 when there is none."""


def wait_s(attempts: int) -> float:
    """Seconds before the next attempt after so many failed: 2, 4, 8, ... at most an hour. Pure."""
    return min(2.0 ** min(attempts, 16), _LONGEST_WAIT_S)


def put_off_s(alone: int) -> float:
    """Seconds until a job is tried again that the server's own trouble ended: 10, in an outage the workers' pauses are
    longer. Where that happened so many times while others of its queue succeeded: 20, 40, ... at most 640. Pure."""
    return min(_PUT_OFF_S * 2.0 ** min(alone, 16), _LONGEST_PUT_OFF_S)


async def enqueue(session: AsyncSession, queue: str, episodes: Sequence[str], version: int, priority: int = 0) -> int:
    """Adds work in the caller's transaction; what is there already, also dead, stays. Returns how much is new."""
    if not episodes:
        return 0
    rows = [{"queue": queue, "episode_id": e, "version": version, "priority": priority} for e in episodes]
    added = await session.execute(insert(Job).values(rows).on_conflict_do_nothing().returning(Job.id))
    # Heard when the transaction commits; unheard, it is found by looking.
    await session.execute(select(func.pg_notify(CHANNEL, queue)))
    return len(added.all())


async def claim(
    session: AsyncSession, claim: str, worker: str, queues: Collection[str] | None = None
) -> Claimed | None:
    """The next due job (of these queues), now this worker's alone; None when there is none."""
    mine = [] if queues is None else [Job.queue.in_(queues)]
    due = (
        select(Job.id)
        .where(Job.state == "queued", _is_due(), *mine)
        .order_by(Job.priority, Job.run_after, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    took = {"state": "running", "attempts": Job.attempts + 1, "claim": claim, "worker": worker}
    query = update(Job).where(Job.id == due).values(**took, heartbeat_at=func.now())
    found = (
        await session.execute(query.returning(Job.id, Job.queue, Job.episode_id, Job.version, Job.attempts))
    ).one_or_none()
    return Claimed(*found, claim) if found else None


async def beat(session: AsyncSession, claims: Sequence[str]) -> set[str]:
    """A sign of life for these; returns those still held."""
    query = update(Job).where(Job.claim.in_(claims)).values(heartbeat_at=func.now()).returning(Job.claim)
    return {each for each in await session.scalars(query) if each is not None}


async def complete(session: AsyncSession, job: Claimed) -> bool:
    """Done: False when another worker has the job meanwhile, and the transaction must not be committed."""
    return (await session.execute(delete(Job).where(*_held(job)).returning(Job.id))).one_or_none() is not None


async def fail(session: AsyncSession, job: Claimed, reason: str, most_attempts: int) -> str | None:
    """After a failed attempt: `queued` again for later, or `dead`; None when the claim was not held."""
    dead = job.attempts >= most_attempts
    values = {"state": "dead" if dead else "queued", "reason": reason[:2000], "claim": None, "heartbeat_at": None}
    later = func.now() + timedelta(seconds=wait_s(job.attempts))
    query = update(Job).where(*_held(job)).values(**values, run_after=later).returning(Job.state)
    return (await session.execute(query)).scalar_one_or_none()


async def hand_back(session: AsyncSession, job: Claimed) -> None:
    """An attempt that a stopping worker broke off: it does not count, and another worker may begin at once."""
    values = {"state": "queued", "attempts": Job.attempts - 1, "claim": None, "worker": None, "heartbeat_at": None}
    await session.execute(update(Job).where(*_held(job)).values(**values))
    await session.execute(select(func.pg_notify(CHANNEL, job.queue)))


async def put_off(session: AsyncSession, job: Claimed, reason: str, alone: int = 0) -> str | None:
    """An attempt that the server's own trouble ended: it does not count. `queued`; None when the claim was not held.

    `alone`: as in `put_off_s`.
    """
    values = {"state": "queued", "attempts": Job.attempts - 1, "reason": reason[:2000], "claim": None}
    later = func.now() + timedelta(seconds=put_off_s(alone))
    query = update(Job).where(*_held(job)).values(**values, heartbeat_at=None, run_after=later).returning(Job.state)
    return (await session.execute(query)).scalar_one_or_none()


async def take_over(session: AsyncSession, timeout_s: float, most_attempts: int) -> Sequence[tuple[int, str]]:
    """Ends the attempts of workers that give no sign of life: (job, `queued` or `dead`) for each."""
    query = text("""
        WITH lost AS (
            SELECT id, worker, attempts FROM jobs
            WHERE state = 'running' AND heartbeat_at NOT BETWEEN -- by a clock that was ahead
                now() - make_interval(secs => :timeout_s) AND now() + make_interval(secs => :timeout_s)
            FOR UPDATE SKIP LOCKED
        )
        UPDATE jobs SET
            state = CASE WHEN lost.attempts >= :most THEN 'dead' ELSE 'queued' END,
            reason = 'attempt ' || lost.attempts || ': worker ' || coalesce(lost.worker, '?')
                || ' gave no sign of life for ' || round(CAST(:timeout_s AS numeric)) || ' s',
            -- At once: the worker is to blame until the job has taken a second one with it.
            run_after = CASE WHEN lost.attempts > 1 THEN now() + make_interval(secs => least(2 ^ lost.attempts, 3600))
                ELSE now() END,
            claim = NULL, heartbeat_at = NULL
        FROM lost WHERE jobs.id = lost.id
        RETURNING jobs.id, jobs.state
    """)
    found = await session.execute(query, {"timeout_s": timeout_s, "most": most_attempts})
    return [(row.id, row.state) for row in found]


async def depths(session: AsyncSession) -> list[Depth]:
    waiting = Job.state != "dead"
    age = func.extract("epoch", func.now() - func.min(Job.created_at).filter(waiting))
    running = func.count().filter(Job.state == "running")
    columns = func.count().filter(waiting), running, func.count().filter(~waiting), func.coalesce(age, 0.0)
    rows = await session.execute(select(Job.queue, *columns).group_by(Job.queue).order_by(Job.queue))
    return [Depth(queue, waiting, running, dead, float(age)) for queue, waiting, running, dead, age in rows]


async def retry_dead(session: AsyncSession, ids: Sequence[int] | None) -> int:
    """Gives dead jobs (all without `ids`) all their attempts again; returns how many."""
    query = update(Job).where(Job.state == "dead")
    if ids is not None:
        query = query.where(Job.id.in_(ids))
    values = {"state": "queued", "attempts": 0, "run_after": func.now(), "worker": None}
    revived = (await session.execute(query.values(**values).returning(Job.queue))).all()
    for queue in {queue for (queue,) in revived}:
        await session.execute(select(func.pg_notify(CHANNEL, queue)))
    return len(revived)


def _is_due() -> ColumnElement[bool]:
    """Also where it waits longer than there is a reason for: the clock that said until when was ahead."""
    longest_put_off_s = case((Job.reason.is_not(None), _LONGEST_PUT_OFF_S), else_=0.0)
    longest_s = func.greatest(func.least(func.power(2.0, Job.attempts), _LONGEST_WAIT_S), longest_put_off_s)
    clock_was_ahead = Job.run_after > func.now() + func.make_interval(0, 0, 0, 0, 0, 0, longest_s)
    return or_(Job.run_after <= func.now(), clock_was_ahead)


def _held(job: Claimed) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Job.id == job.id, Job.claim == job.claim
