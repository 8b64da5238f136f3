"""A streaming replica that takes long readings off the database, and never shows less than what is committed.

Before each reading the replica must have replayed the primary's log as far as it was on disk when the reading was asked
for, so that who labels an episode and then looks sees the label. One that lags too far or fails is left alone for a
while, and readings go to the primary: a replica makes things lighter, nothing depends on it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg  # type: ignore[import-untyped]
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

log = structlog.get_logger()

_WAIT_S = 1.0
_POLL_S = 0.005
_PAUSE_S = 10.0
_REPLAYED = text("SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() >= CAST(:lsn AS pg_lsn), false)")


class Replica:
    """Sessions on it. Connects on first use, so building it touches nothing."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._paused_until_s = 0.0

    async def enter(self, stack: AsyncExitStack, flushed: Callable[[], Awaitable[int]]) -> AsyncSession | None:
        """A session that ends with `stack` and has all up to `flushed()`; None: read from the primary."""
        if time.monotonic() < self._paused_until_s:
            return None
        lsn = await flushed()
        try:
            async with AsyncExitStack() as mine:
                session = await mine.enter_async_context(self._sessions())
                reason = await self._behind(session, lsn)
                if reason is None:
                    await stack.enter_async_context(mine.pop_all())
                    return session
        except (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            reason = f"{type(error).__name__}: {error}"[:200]
        self._paused_until_s = time.monotonic() + _PAUSE_S
        log.warning("replica not used for now: readings go to the primary", reason=reason, again_in_s=_PAUSE_S)
        return None

    async def close(self) -> None:
        await self._engine.dispose()

    async def _behind(self, session: AsyncSession, lsn: int) -> str | None:
        """Why it cannot answer; None once it has replayed `lsn`."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            in_recovery, replayed = (await session.execute(_REPLAYED, {"lsn": lsn})).one()
            if not in_recovery:
                return "it is no replica (not in recovery)"  # promoted, it goes its own way
            if replayed:
                return None
            if time.monotonic() > deadline:
                return f"it is more than {_WAIT_S:g} s behind"
            await asyncio.sleep(_POLL_S)
