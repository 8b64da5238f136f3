"""Lists in pages, by the ids of their rows: what comes or goes in between neither repeats nor hides another row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped


class _Numbered(Protocol):
    @property
    def id(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Page[Row]:
    items: Sequence[Row]
    next_cursor: int | None
    """Give it back to get the next page; None on the last."""


async def read_page[Row: _Numbered](
    session: AsyncSession, query: Select[Row], id_: Mapped[int], limit: int, cursor: int | None, desc: bool = True
) -> Page[Row]:
    """At most `limit` rows after `cursor` of a query without an order; `id_` is the column that numbers them."""
    query = query.order_by(id_.desc() if desc else id_).limit(limit + 1)
    if cursor is not None:
        query = query.where(id_ < cursor if desc else id_ > cursor)
    found = (await session.scalars(query)).all()
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)
