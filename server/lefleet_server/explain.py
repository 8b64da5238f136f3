"""What PostgreSQL plans to do for a statement, as it says itself."""

import json
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement, Executable


class _Explain(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, statement: Select[Any], options: str) -> None:
        self.statement = statement
        self.words = options


@compiles(_Explain)
def _compile(element: _Explain, compiler: SQLCompiler, **words: Any) -> str:
    return f"EXPLAIN ({element.words}) {compiler.process(element.statement, **words)}"


async def plan(session: AsyncSession, statement: Select[Any], options: str = "") -> dict[str, Any]:
    """The outermost node (`Node Type`, `Plans`, ...) of the plan, with the statement's own values.

    `options` are EXPLAIN's, for instance `ANALYZE, BUFFERS`.
    """
    found = await session.scalar(_Explain(statement, ", ".join(filter(None, ("FORMAT JSON", options)))))
    top: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return top


async def estimated_rows(session: AsyncSession, statement: Select[Any]) -> float:
    """How many rows the statistics make PostgreSQL expect; nothing is counted."""
    return float((await plan(session, statement))["Plan Rows"])
