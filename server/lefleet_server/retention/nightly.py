"""The nightly run: by one worker of all, once a day, taken over from one that died."""

from datetime import UTC, date, datetime, timedelta

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.config import Settings
from lefleet_server.db import Database
from lefleet_server.episodes.models import RobotStored
from lefleet_server.retention import service
from lefleet_server.retention.models import RetentionRun
from lefleet_server.retention.report import Report

log = structlog.get_logger()

ACTOR = "retention"
_SILENT = timedelta(minutes=10)
_BEAT_S = 5.0


async def run(db: Database, settings: Settings, worker: str, now: datetime) -> Report | None:
    """Today's run (UTC), when it is due and nobody has done it or is at it; None otherwise.

    One that would delete more than `retention_most_percent` of all episodes says so, and is not applied.
    """
    hour = settings.retention_hour_utc
    if hour is None or now.astimezone(UTC).hour < hour:
        return None
    day = now.astimezone(UTC).date()
    if not await _claim(db, day, worker):
        return None
    foreseen = await service.plan(db, now=now)
    if refused := await _too_much(db, settings, foreseen):
        await _note(db, day, worker, Report(applied=False), ended=True, refused=refused)
        log.error("retention deleted nothing", reason=refused)
        return foreseen
    beat_at = now

    async def told(report: Report) -> None:
        nonlocal beat_at
        if (datetime.now(UTC) - beat_at).total_seconds() > _BEAT_S:
            beat_at = datetime.now(UTC)
            await _note(db, day, worker, report, ended=False)

    report = await service.apply(db, settings, ACTOR, told=told, now=now)
    await _note(db, day, worker, report, ended=True)
    log.info("retention ran", episodes=report.total.episodes, bytes=report.total.bytes, held=report.held.episodes)
    return report


async def last(session: AsyncSession) -> RetentionRun | None:
    """The newest night's run, ended or not; None before the first. Nights of a clock that was ahead do not count."""
    query = select(RetentionRun).where(RetentionRun.beat_at <= func.now())
    return (await session.scalars(query.order_by(RetentionRun.day.desc()).limit(1))).one_or_none()


def next_at(hour_utc: int, now: datetime, last_day: date | None) -> datetime:
    """When the next run is due: `now` or earlier when only a worker is missing. `last_day`: of the last one."""
    today = now.astimezone(UTC).replace(hour=hour_utc, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1) if last_day is not None and last_day >= today.date() else today


async def _claim(db: Database, day: date, worker: str) -> bool:
    row = insert(RetentionRun).values(day=day, worker=worker)
    silent = RetentionRun.ended_at.is_(None) & (RetentionRun.beat_at < func.now() - _SILENT)
    took = row.on_conflict_do_update(
        index_elements=["day"], set_={"worker": worker, "beat_at": func.now()}, where=silent
    )
    async with db.transaction() as session:
        return (await session.execute(took.returning(RetentionRun.day))).one_or_none() is not None


async def _too_much(db: Database, settings: Settings, foreseen: Report) -> str:
    """Why a run that would delete this is refused, or nothing."""
    going, most = foreseen.total.episodes, settings.retention_most_percent
    async with db.session() as session:
        episodes = int(await session.scalar(select(func.sum(RobotStored.episodes))) or 0)
    if going * 100 <= episodes * most:
        return ""
    return f"the rules would delete {going} of {episodes} episodes, more than retention_most_percent = {most:g}"


async def _note(db: Database, day: date, worker: str, report: Report, *, ended: bool, refused: str = "") -> None:
    values = {"beat_at": func.now(), "episodes": report.total.episodes, "bytes": report.total.bytes}
    mine = RetentionRun.day == day, RetentionRun.worker == worker
    async with db.transaction() as session:
        done = {"ended_at": func.now(), "refused": refused} if ended else {}
        await session.execute(update(RetentionRun).where(*mine).values(**values, **done))
