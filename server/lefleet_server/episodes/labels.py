"""What people think of episodes: of one or of hundreds at once, all or none, each kept in the audit log."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import User
from lefleet_server.audit.models import AuditEntry
from lefleet_server.audit.service import audit
from lefleet_server.episodes.models import Episode
from lefleet_server.problems import NotFound

MAX_EPISODES = 500
"""In one change: each is a row of the audit log too, and all are locked until the end."""


class Change(TypedDict, total=False):
    """What is left out stays as it is; None takes it back."""

    outcome: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A label as it is or was."""

    outcome: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a change did; enough to undo it. Episodes that were so already are in neither."""

    before: Mapping[str, Judged]
    after: Mapping[str, Judged]


@dataclass(frozen=True, slots=True)
class Judgement:
    by: str
    at: datetime


async def last(session: AsyncSession, episode_id: str) -> Judgement | None:
    """Who labelled the episode last, and when."""
    query = (
        select(AuditEntry.actor, AuditEntry.at)
        .where(AuditEntry.subject == f"episode:{episode_id}", AuditEntry.action == "episode.labelled")
        .order_by(AuditEntry.at.desc())
        .limit(1)
    )
    row = (await session.execute(query)).one_or_none()
    return Judgement(row.actor.removeprefix("user:"), row.at) if row else None


async def label(
    session: AsyncSession, user: User, changes: Mapping[str, Change], only_if: Mapping[str, Judged] | None = None
) -> Labelled:
    """Changes the labels of episodes by their ids. Raises NotFound, and changes nothing, when one does not exist.

    `only_if`: labels that episodes must have; one that has another by now, or was deleted, is left alone.
    """
    only_if = only_if or {}
    episodes = await _locked(session, changes)
    if missing := changes.keys() - episodes.keys() - only_if.keys():
        some = ", ".join(sorted(missing)[:5])
        raise NotFound(f"no episode {some}{' and others' if len(missing) > 5 else ''}; no label was changed")
    before = {id_: Judged(episode.label_outcome, episode.label_note) for id_, episode in episodes.items()}
    after = {
        id_: Judged(changes[id_].get("outcome", was.outcome), changes[id_].get("note", was.note))
        for id_, was in before.items()
    }
    changed = [id_ for id_, was in before.items() if was != after[id_] and was == only_if.get(id_, was)]
    for id_ in changed:
        _write(session, user, episodes[id_], after[id_])
    await session.flush()
    return Labelled({id_: before[id_] for id_ in changed}, {id_: after[id_] for id_ in changed})


async def undo(session: AsyncSession, user: User, done: Labelled) -> Labelled:
    """Gives episodes the labels back that they had before; those that somebody changed or deleted since are left."""
    changes: dict[str, Change] = {id_: {"outcome": was.outcome, "note": was.note} for id_, was in done.before.items()}
    return await label(session, user, changes, only_if=done.after)


async def _locked(session: AsyncSession, ids: Collection[str]) -> dict[str, Episode]:
    """In one order, so that two changes of the same episodes wait for each other and never both."""
    query = select(Episode).where(Episode.id.in_(ids)).order_by(Episode.id).with_for_update()
    found = await session.scalars(query, execution_options={"populate_existing": True})
    return {episode.id: episode for episode in found}


def _write(session: AsyncSession, user: User, episode: Episode, new: Judged) -> None:
    old = {"outcome": episode.label_outcome, "note": episode.label_note}
    episode.label_outcome, episode.label_note = new.outcome, new.note
    detail = {"old": old, "new": {"outcome": new.outcome, "note": new.note}}
    audit(session, f"user:{user.username}", "episode.labelled", f"episode:{episode.id}", detail)
