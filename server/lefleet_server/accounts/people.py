"""Everybody who has an account, with what is known of how they get in. Read-only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import ApiToken, LoginSession, User
from lefleet_server.audit.models import AuditEntry
from lefleet_server.db import utc_now


@dataclass(frozen=True, slots=True)
class Person:
    """One account as the list shows it."""

    username: str
    role: str
    created_at: datetime
    disabled_at: datetime | None
    has_password: bool
    logged_in_at: datetime | None
    """Last log-in, from the audit log."""
    sessions: int
    tokens: int


async def people(session: AsyncSession) -> Sequence[Person]:
    """Everybody, by name."""
    return [Person(*row) for row in await session.execute(_people())]


async def person(session: AsyncSession, username: str) -> Person | None:
    """None when nobody is called so; `username` may be any text of a URL."""
    if "\x00" in username:
        return None  # PostgreSQL takes no such text
    row = (await session.execute(_people().where(User.username == username))).one_or_none()
    return Person(*row) if row else None


def _people() -> Select[Any]:
    now = utc_now()
    # By subject: a person's own account has few entries, what they did may have millions.
    last = (
        select(AuditEntry.at)
        .where(AuditEntry.subject == "user:" + User.username, AuditEntry.action == "user.logged-in")
        .order_by(AuditEntry.at.desc())
        .limit(1)
        .scalar_subquery()
    )
    sessions = (
        select(func.count()).where(LoginSession.user_id == User.id, LoginSession.expires_at > now).scalar_subquery()
    )
    tokens = (
        select(func.count())
        .where(ApiToken.user_id == User.id, ApiToken.revoked_at.is_(None), ApiToken.expires_at > now)
        .scalar_subquery()
    )
    return select(
        User.username,
        User.role,
        User.created_at,
        User.disabled_at,
        User.password_hash.is_not(None),
        last,
        sessions,
        tokens,
    ).order_by(User.username)
