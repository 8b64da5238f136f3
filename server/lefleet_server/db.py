"""The database: one engine per process, short sessions, and where its address comes from."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, cast

import asyncpg  # type: ignore[import-untyped]
from pydantic import SecretStr
from sqlalchemy import ColumnElement, DateTime, Executable, MetaData, event, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute
from sqlalchemy.pool import AsyncAdaptedQueuePool

from lefleet_server import cluster
from lefleet_server.config import Settings
from lefleet_server.replica import Replica
from lefleet_server.secret import read_secret

type Json = dict[str, Any]


class DatabaseDownError(Exception):
    """The database did not answer; the message says which and what to do."""


class Base(DeclarativeBase):
    """Names are fixed so that migrations can refer to constraints."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True), dict[str, Any]: JSONB, list[str]: JSONB}


def utc_now() -> datetime:
    return datetime.now(UTC)


type Stamp = InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None]


def is_near(stamp: Stamp, span: timedelta) -> ColumnElement[bool]:
    """Whether a time is at most `span` ago or ahead, by the database's clock.

    What lies further ahead than a thing can be was written while that clock was wrong, and must not hold until then.
    """
    return stamp.between(func.now() - span, func.now() + span)


class Database:
    """Sessions on one connection pool. Connects on first use, so building it touches nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.engine = _engine(settings, self._connect)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self._replica: Replica | None = None
        if settings.database_replica_url is not None:
            self._replica = Replica(_engine(settings, self._connect_replica))

    def session(self) -> AsyncSession:
        """A session to be used as `async with db.session() as session`; commit is explicit."""
        return self._sessions()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session that commits at the end of the block, or rolls back when it raises."""
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for reading much: on the replica, if there is one that has all that is committed by now."""
        async with AsyncExitStack() as stack:
            session: AsyncSession | None = None
            if self._replica is not None:
                session = await self._replica.enter(stack, self._flushed)
            yield session if session is not None else await stack.enter_async_context(self._sessions())

    async def at_once(self, statement: Executable, values: Json) -> Sequence[Any]:
        """One statement, committed by itself, so that it takes one answer of the database and not three; its rows."""
        async with self.engine.connect() as connection:
            alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
            return (await alone.execute(statement, values)).all()

    def in_use(self) -> int:
        """Connections checked out of the pool now."""
        return cast(AsyncAdaptedQueuePool, self.engine.pool).checkedout()

    async def close(self) -> None:
        await self.engine.dispose()
        if self._replica is not None:
            await self._replica.close()

    async def wait(self, *, maintenance: bool = False) -> None:
        """Returns once the database answers; DatabaseDownError after `database_wait_s`.

        `maintenance` asks PostgreSQL's own database instead, which is there before ours is made.
        """
        deadline = time.monotonic() + self._settings.database_wait_s
        name = "postgres" if maintenance and self._settings.postgres_dir else None
        while True:
            try:
                connection = await asyncpg.connect(**connection_arguments(self._settings, name), timeout=10)
                await connection.close()
            except asyncpg.InvalidCatalogNameError as error:
                raise DatabaseDownError(f"database: {error}; run `lefleet-server migrate`") from error
            except UNREACHABLE as error:
                if time.monotonic() > deadline:
                    raise DatabaseDownError(
                        f"database: no answer within database_wait_s = {self._settings.database_wait_s:g} s "
                        f"({error}); start it with `lefleet-server postgres`, or correct database_url"
                    ) from error
                await asyncio.sleep(0.25)
            else:
                return

    async def require_space(self) -> None:
        """Raises DBAPIError where the database's disk is full: nothing that only reads shows that.

        Has PostgreSQL write a temporary file, which costs no log: the rows do not fit in `work_mem`.
        """
        async with self.transaction() as session:
            await session.execute(text("SELECT set_config('work_mem', '64kB', true)"))
            await session.execute(text("SELECT count(*) FROM generate_series(1, 10000)"))

    async def _connect(self) -> Any:
        return await asyncpg.connect(**connection_arguments(self._settings), timeout=10)

    async def _connect_replica(self) -> Any:
        return await asyncpg.connect(**replica_arguments(self._settings), timeout=_REPLICA_CONNECT_S)

    async def _flushed(self) -> int:
        """How far the primary's log is on its disk: all that is committed is in it."""
        async with self._sessions() as session:
            return int((await session.execute(text("SELECT pg_current_wal_flush_lsn()"))).scalar_one())


def _engine(settings: Settings, connect: Callable[[], Awaitable[Any]]) -> AsyncEngine:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=10,
        # Errors are logged with their statement; its values may be passwords' hashes and people's notes.
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "checkin", _note_use)
    event.listen(engine.sync_engine, "checkout", _require_alive)
    return engine


_REPLICA_CONNECT_S = 2.0
"""The primary is there: nobody waits long for the other one."""

_PING_AFTER_S = 1.0


def _note_use(connection: Any, record: Any) -> None:
    record.info["used_s"] = time.monotonic()


def _require_alive(connection: Any, record: Any, _proxy: Any) -> None:
    """Replaces a connection that died: a restarted PostgreSQL must cost one reconnect, not a failed request for each.

    A closed one is known as such, without asking; only one that has been idle may be dead without a sign. SQLAlchemy's
    own pre-ping asks each time, which doubled what a short request costs.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the connection was closed")
    if time.monotonic() - record.info.get("used_s", time.monotonic()) > _PING_AFTER_S:
        try:
            connection.ping()
        except Exception as error:
            raise DisconnectionError("the connection does not answer") from error


UNREACHABLE = (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)
"""What a connection attempt raises while the database is starting, stopped or full."""

FAILURES = (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, DatabaseDownError)
"""Whatever a session may raise, those from before it has a connection included, which SQLAlchemy does not wrap."""


def why_not(error: Exception) -> str:
    """What a person reads of one of FAILURES: how the database is, and the remedy where it is not to wait."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return _STATES.get(getattr(cause, "sqlstate", None) or "", "does not answer")


_STATES = {
    asyncpg.TooManyConnectionsError.sqlstate: "has no connection left; end other clients, lower database_pool_size, or "
    "raise PostgreSQL's max_connections",
    asyncpg.CannotConnectNowError.sqlstate: "is starting or stopping",
    asyncpg.DiskFullError.sqlstate: "has no space left on its disk; free some of it, then everything goes on by itself",
}


def connection_arguments(settings: Settings, database: str | None = None) -> Json:
    """Keyword arguments for asyncpg.connect; reads places and passwords that lie in files each time."""
    override: Json = {"database": database} if database else {}
    if settings.database_url is not None:
        return _by_url(settings, settings.database_url) | override
    if settings.postgres_dir is not None:
        return cluster.read(settings.postgres_dir).connection_arguments() | override
    raise DatabaseDownError("database: set database_url or postgres_dir in the settings file")


def replica_arguments(settings: Settings) -> Json:
    """The same for the replica, which has the primary's accounts and passwords."""
    if settings.database_replica_url is None:
        raise DatabaseDownError("database: set database_replica_url in the settings file")
    return _by_url(settings, settings.database_replica_url)


def _by_url(settings: Settings, url: SecretStr) -> Json:
    arguments = {"dsn": url.get_secret_value().replace("postgresql+asyncpg://", "postgresql://", 1)}
    if settings.database_password_file is not None:
        arguments["password"] = read_secret(settings.database_password_file)
    return arguments
