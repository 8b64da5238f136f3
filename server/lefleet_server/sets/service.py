"""Sets of episodes: made, filled by hand or by a filter, emptied, exported. Every change is audited with its count."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Select, delete, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import User
from lefleet_server.audit.service import audit
from lefleet_server.episodes.models import Episode
from lefleet_server.episodes.service import EpisodeFilter, conditions
from lefleet_server.problems import Conflict, Invalid, NotFound
from lefleet_server.sets.models import EpisodeSet, EpisodeSetMember

MAX_IDS = 500
MAX_MATCHING = 100_000
"""Added or removed by one filter: a filter that was left out must not take ten million."""
_EXPORT_ROWS = 1000


@dataclass(frozen=True, slots=True)
class SetView:
    """A set and how many episodes are in it."""

    set: EpisodeSet
    episodes: int


@dataclass(frozen=True, slots=True)
class Changed:
    """How many episodes came in and went out; those that were so already are not counted."""

    added: int
    removed: int


async def create(session: AsyncSession, user: User, name: str, note: str = "") -> SetView:
    """An empty set. Raises Conflict when the name is taken."""
    actor = f"user:{user.username}"
    values = {"name": name, "note": note, "created_by": actor}
    made = insert(EpisodeSet).values(values).on_conflict_do_nothing().returning(EpisodeSet)
    found = (await session.scalars(made)).one_or_none()
    if found is None:
        raise Conflict(f"name: there is a set {name!r} already", fields=[("name", "is taken")], kind="set-exists")
    audit(session, actor, "set.created", f"set:{name}", {"note": note})
    return SetView(found, 0)


async def list_sets(session: AsyncSession) -> Sequence[SetView]:
    """All, by name."""
    return [SetView(*row) for row in await session.execute(_views().order_by(EpisodeSet.name))]


async def get(session: AsyncSession, name: str) -> SetView:
    row = (await session.execute(_views().where(EpisodeSet.name == name))).one_or_none()
    if row is None:
        raise NotFound(f"no set {name!r}; GET /api/v1/sets lists them")
    return SetView(*row)


async def remove_set(session: AsyncSession, user: User, name: str) -> None:
    """The set only: its episodes stay. Raises NotFound."""
    found = await get(session, name)
    await session.delete(found.set)
    audit(session, f"user:{user.username}", "set.deleted", f"set:{name}", {"episodes": found.episodes})


async def change(
    session: AsyncSession, user: User, name: str, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> Changed:
    """Adds and removes episodes by their ids, all or none. Raises NotFound when an added one does not exist."""
    known = set(await session.scalars(select(Episode.id).where(Episode.id.in_(add)))) if add else set()
    if missing := set(add) - known:
        raise NotFound(f"no episode {', '.join(sorted(missing)[:5])}; the set was not changed")
    found = await get(session, name)
    done = Changed(
        await _add(session, found.set, select(Episode).where(Episode.id.in_(add))) if add else 0,
        await _remove(session, found.set, list(remove)) if remove else 0,
    )
    _audit(session, user, name, done, {"add": list(add), "remove": list(remove)})
    return done


async def count_matching(session: AsyncSession, which: EpisodeFilter) -> int:
    """How many episodes `add_matching` would put in, with those that are in already. Raises Invalid when too many."""
    most = select(Episode.id).where(*conditions(which)).limit(MAX_MATCHING + 1).subquery()
    found = await session.scalar(select(func.count()).select_from(most)) or 0
    if found > MAX_MATCHING:
        raise Invalid(f"more than {MAX_MATCHING:,} episodes match; narrow the filters, or add them in parts")
    return found


async def count_inside(session: AsyncSession, name: str, which: EpisodeFilter) -> int:
    """How many episodes `remove_matching` would take out."""
    found = await get(session, name)
    inside = select(func.count()).where(EpisodeSetMember.set_id == found.set.id, _is_member(which))
    return await session.scalar(inside) or 0


async def add_matching(session: AsyncSession, user: User, name: str, which: EpisodeFilter) -> Changed:
    """Adds every episode of a filter. Raises Invalid when there are too many."""
    found = await get(session, name)
    await count_matching(session, which)
    done = Changed(await _add(session, found.set, select(Episode).where(*conditions(which))), 0)
    _audit(session, user, name, done, {"add_matching": _words(which)})
    return done


async def remove_matching(session: AsyncSession, user: User, name: str, which: EpisodeFilter) -> Changed:
    """Removes every episode of a filter from the set; the episodes stay."""
    found = await get(session, name)
    gone = delete(EpisodeSetMember).where(EpisodeSetMember.set_id == found.set.id, _is_member(which))
    done = Changed(0, await _count(session, gone))
    _audit(session, user, name, done, {"remove_matching": _words(which)})
    return done


async def export(session: AsyncSession, name: str) -> AsyncIterator[bytes]:
    """JSON lines, oldest first: what training needs to fetch each file and to know that it is the right one."""
    set_id = (await get(session, name)).set.id
    after: tuple[Any, str] | None = None
    member = EpisodeSetMember
    while True:
        query = select(Episode).join(member, member.episode_id == Episode.id).where(member.set_id == set_id)
        query = query.order_by(member.started_at, member.episode_id).limit(_EXPORT_ROWS)
        if after is not None:
            place = tuple_(literal(after[0]), literal(after[1]))
            query = query.where(tuple_(member.started_at, member.episode_id) > place)
        page = (await session.scalars(query)).all()
        if not page:
            return
        yield b"".join(map(_line, page))
        after = page[-1].started_at, page[-1].id
        session.expunge_all()


def _line(episode: Episode) -> bytes:
    said = {
        "id": episode.id,
        "sha256": episode.sha256,
        "bytes": episode.bytes,
        "file": f"/api/v1/episodes/{episode.id}/file",
        "robot_id": episode.robot_id,
        "task": episode.task,
        "policy_repo": episode.policy_repo,
        "policy_commit": episode.policy_commit,
        "result": episode.result,
        "label_note": episode.label_note,
        "interrupted": episode.interrupted,
        "frames": episode.frames,
        "fps": episode.fps,
        "started_at": episode.started_at.isoformat(),
    }
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


def _views() -> Select[Any]:
    members = select(func.count()).where(EpisodeSetMember.set_id == EpisodeSet.id).scalar_subquery()
    return select(EpisodeSet, members)


async def _add(session: AsyncSession, into: EpisodeSet, episodes: Select[Episode]) -> int:
    rows = episodes.with_only_columns(literal(into.id), Episode.id, Episode.started_at)
    added = insert(EpisodeSetMember).from_select(["set_id", "episode_id", "started_at"], rows)
    return await _count(session, added.on_conflict_do_nothing())


async def _remove(session: AsyncSession, out_of: EpisodeSet, ids: list[str]) -> int:
    member = EpisodeSetMember
    return await _count(session, delete(member).where(member.set_id == out_of.id, member.episode_id.in_(ids)))


async def _count(session: AsyncSession, statement: Any) -> int:
    done = await session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", done).rowcount


def _is_member(which: EpisodeFilter) -> ColumnElement[bool]:
    """Of a member: that the filter has its episode."""
    return select(Episode.id).where(*conditions(which)).where(Episode.id == EpisodeSetMember.episode_id).exists()


def _words(which: EpisodeFilter) -> dict[str, Any]:
    return {name: str(value) for name, value in asdict(which).items() if value is not None}


def _audit(session: AsyncSession, user: User, name: str, done: Changed, how: dict[str, Any]) -> None:
    if done != Changed(0, 0):
        audit(session, f"user:{user.username}", "set.changed", f"set:{name}", asdict(done) | how)
