"""Queues what all episodes lack, page by page: no statement and no transaction grows with how many there are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, select

from lefleet_server.db import Database
from lefleet_server.episodes.models import Episode, RobotStored
from lefleet_server.jobs import queue

PAGE = 1000
"""Episodes that are looked at in one transaction."""


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of job that episodes may need."""

    queue: str
    version: int
    is_needed: ColumnElement[bool]
    """By an `Episode`."""


async def size(db: Database) -> int:
    """How many episodes `enqueue` will look at."""
    async with db.session() as session:
        return int(await session.scalar(select(func.coalesce(func.sum(RobotStored.episodes), 0))) or 0)


async def enqueue(
    db: Database, works: Sequence[Work], tell: Callable[[int], None] = lambda _: None, most: int = PAGE
) -> int:
    """Jobs for all episodes that need them, behind what just arrived; returns how many are new.

    `tell` hears of each page (of at most so many) how many episodes it has. Broken off and called again, it queues
    what is left.
    """
    after, new = "", 0
    while True:
        async with db.transaction() as session:
            page = (await session.scalars(page_query(after, most))).all()
            if not page:
                return new
            for work in works:
                needing = (await session.scalars(needing_query(work, after, page[-1]))).all()
                new += await queue.enqueue(session, work.queue, needing, work.version, queue.LATER)
        tell(len(page))
        after = page[-1]


def page_query(after: str, most: int = PAGE) -> Select[str]:
    """The ids of the next page."""
    return select(Episode.id).where(Episode.id > after).order_by(Episode.id).limit(most)


def needing_query(work: Work, after: str, last: str) -> Select[str]:
    """Those of a page that need the work. Locked, so that none is deleted before its job is there."""
    of_page = select(Episode.id).where(Episode.id > after, Episode.id <= last, work.is_needed)
    return of_page.order_by(Episode.id).with_for_update(read=True, key_share=True, of=Episode)
