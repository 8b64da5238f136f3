"""Heartbeats of many robots in one statement: each is answered once committed, and a commit costs the same for all.

One statement at a time, and after one that stored several the next begins GAP_S later at the earliest: what comes
meanwhile waits. Heartbeats that come one by one are stored without delay.
"""

import asyncio
import contextvars
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

from sqlalchemy import Executable, LargeBinary, String, bindparam, cast, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.exc import DBAPIError

from lefleet_server.db import Database
from lefleet_server.robots.models import Robot, RobotStatus
from lefleet_server.robots.schemas import Heartbeat

MOST_AT_ONCE = 500
GAP_S = 0.05
"""A robot that speaks every five seconds does not mind, and the cost of a statement is shared by more heartbeats."""
_MOST_KNOWN = 100_000


@dataclass(frozen=True, slots=True)
class Said:
    """One heartbeat, checked."""

    state: str
    episode_id: str | None
    heartbeat: str
    """JSON, without its metrics."""
    metrics: str

    @classmethod
    def of(cls, beat: Heartbeat) -> Self:
        return cls(beat.state, beat.episode_id, beat.model_dump_json(exclude={"metrics"}), beat.metrics)


@dataclass(slots=True)
class _Waiting:
    said: Said
    stored: list[asyncio.Future[str | None]] = field(default_factory=list)


class Beats:
    """Group commit of this process. Building it touches nothing."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: dict[bytes, _Waiting] = {}
        self._storing: asyncio.Task[None] | None = None
        self._next_s = 0.0
        self._known: set[bytes] = set()

    async def learn(self) -> None:
        """Knows the whole fleet at once: after a start all of it speaks within an interval."""
        query = select(Robot.token_hash).where(Robot.token_hash.is_not(None)).limit(_MOST_KNOWN)
        async with self._db.session() as session:
            self._known |= {found for found in await session.scalars(query) if found is not None}

    def knows(self, token_hash: bytes) -> bool:
        """Whether this was a robot's credential a while ago: worth asking the database about along with a heartbeat."""
        return token_hash in self._known

    async def store(self, token_hash: bytes, said: Said) -> str | None:
        """Replaces the last heartbeat of the robot whose credential this is; its id once that is committed.

        None when it is no robot's: the statement that stores looks for itself, so a credential that was revoked at
        whichever process counts no more.
        """
        waiting = self._waiting.get(token_hash)
        if waiting is None:
            waiting = self._waiting[token_hash] = _Waiting(said)
        waiting.said = said  # of two at once the newer is the last
        stored: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        waiting.stored.append(stored)
        if self._storing is None:
            # In a context of its own: it works for many requests, and must not be logged as the first one's.
            self._storing = asyncio.create_task(self._store_all(), context=contextvars.Context())
        return await stored

    async def _store_all(self) -> None:
        clock_s = asyncio.get_running_loop().time
        try:
            while self._waiting:
                await asyncio.sleep(self._next_s - clock_s())
                some = {name: self._waiting.pop(name) for name in list(islice(self._waiting, MOST_AT_ONCE))}
                self._next_s = clock_s() + (GAP_S if len(some) > 1 else 0)
                await self._store_some(some)
        finally:
            # Here and at once, not when the task is seen to be done: what comes in between would wait for nobody.
            self._storing = None

    async def _store_some(self, some: dict[bytes, _Waiting]) -> None:
        try:
            found = await self._write(list(some), [each.said for each in some.values()])
        except DBAPIError as error:
            if len(some) == 1 or error.connection_invalidated:
                _fail(some, error)
                return
            # A value that PostgreSQL does not take must not keep other robots' from being stored.
            for name, waiting in some.items():
                await self._store_some({name: waiting})
        except Exception as error:  # noqa: BLE001 - whoever waits is told what happened, whatever it was
            _fail(some, error)
        else:
            self._remember(found.keys(), some.keys() - found.keys())
            for name, waiting in some.items():
                for stored in waiting.stored:
                    if not stored.done():
                        stored.set_result(found.get(name))

    async def _write(self, hashes: Sequence[bytes], said: Sequence[Said]) -> dict[bytes, str]:
        """The robots by the hash of their credential."""
        values = {
            "token_hashes": hashes,
            "states": [each.state for each in said],
            "episode_ids": [each.episode_id for each in said],
            "heartbeats": [each.heartbeat for each in said],
            "metrics_texts": [each.metrics for each in said],
        }
        return dict(await self._db.at_once(_STORE, values))

    def _remember(self, found: Set[bytes], unknown: Set[bytes]) -> None:
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        self._known |= found
        self._known -= unknown


def _fail(some: dict[bytes, _Waiting], error: Exception) -> None:
    for waiting in some.values():
        for stored in waiting.stored:
            if not stored.done():
                stored.set_exception(error)


def _store() -> Executable:
    texts = ARRAY(String)
    said = (
        func.unnest(
            bindparam("token_hashes", type_=ARRAY(LargeBinary)),
            bindparam("states", type_=texts),
            bindparam("episode_ids", type_=texts),
            bindparam("heartbeats", type_=texts),
            bindparam("metrics_texts", type_=texts),
        )
        .table_valued(
            column("token_hash", LargeBinary), column("state", String), column("episode_id", String),
            column("heartbeat", String), column("metrics", String),
        )
        .render_derived(name="said")
    )  # fmt: skip
    known = (
        select(Robot.id, said.c.token_hash, said.c.state, said.c.episode_id, said.c.heartbeat, said.c.metrics)
        .join_from(said, Robot, Robot.token_hash == said.c.token_hash)
        .cte("known")
    )
    rows = select(
        known.c.id, func.now(), known.c.state, known.c.episode_id, cast(known.c.heartbeat, JSONB), known.c.metrics
    ).order_by(known.c.id)  # two processes with the same robots must not wait for each other in a circle
    names = ["robot_id", "received_at", "state", "episode_id", "heartbeat", "metrics"]
    added = insert(RobotStatus).from_select(names, rows)
    changes = {name: added.excluded[name] for name in names[1:]}
    stored = added.on_conflict_do_update(index_elements=["robot_id"], set_=changes).returning(RobotStatus.robot_id)
    return select(known.c.token_hash, known.c.id).add_cte(stored.cte("stored"))


_STORE = _store()
