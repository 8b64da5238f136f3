"""Log-ins: opened, listed, ended."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import LoginSession, Role, User
from lefleet_server.audit.service import audit
from lefleet_server.db import utc_now
from lefleet_server.problems import NotFound
from lefleet_server.secret import USER_PREFIX, digest, new_token


@dataclass(frozen=True, slots=True)
class Device:
    """From where somebody logs in: shown beside the session, so that a strange one stands out."""

    address: str = ""
    agent: str = ""


async def open_session(session: AsyncSession, user: User, ttl_s: int, device: Device, how: str) -> str:
    """The token of a new log-in."""
    now = utc_now()
    await session.execute(delete(LoginSession).where(LoginSession.expires_at < now))
    token = new_token(USER_PREFIX)
    session.add(
        LoginSession(
            token_hash=digest(token),
            user_id=user.id,
            expires_at=now + timedelta(seconds=ttl_s),
            address=device.address,
            agent=device.agent[:300].replace("\x00", ""),
            seen_at=now,
        )
    )
    audit(session, f"user:{user.username}", "user.logged-in", f"user:{user.username}", {"how": how})
    return token


async def close_session(session: AsyncSession, token: str) -> None:
    """Ends the log-in that this token belongs to, if any."""
    ended = delete(LoginSession).where(LoginSession.token_hash == digest(token)).returning(LoginSession.user_id)
    user_id = (await session.execute(ended)).scalar_one_or_none()
    user = await session.get(User, user_id) if user_id is not None else None
    if user is not None:
        audit(session, f"user:{user.username}", "user.logged-out", f"user:{user.username}", {})


async def list_sessions(session: AsyncSession, user_id: int) -> Sequence[LoginSession]:
    """Those that have not expired, newest first."""
    query = select(LoginSession).where(LoginSession.user_id == user_id, LoginSession.expires_at > utc_now())
    return (await session.scalars(query.order_by(LoginSession.id.desc()))).all()


async def roles_of(session: AsyncSession, session_ids: Collection[int]) -> dict[int, Role]:
    """What the people behind these log-ins are now, by session; those that have ended are left out."""
    query = (
        select(LoginSession.id, User.role)
        .join(User, User.id == LoginSession.user_id)
        .where(LoginSession.id.in_(session_ids), LoginSession.expires_at > utc_now(), User.disabled_at.is_(None))
    )
    return {id_: Role(role) for id_, role in await session.execute(query)}


async def end_session(session: AsyncSession, user: User, session_id: int, actor: str) -> None:
    """Ends one log-in of this person at once. Raises NotFound."""
    ended = delete(LoginSession).where(LoginSession.id == session_id, LoginSession.user_id == user.id)
    if (await session.execute(ended.returning(LoginSession.id))).scalar_one_or_none() is None:
        raise NotFound(f"{user.username} has no session {session_id}")
    audit(session, actor, "user.session-ended", f"user:{user.username}", {"session": session_id})


async def end_sessions(session: AsyncSession, user: User, actor: str, but: int | None = None) -> int:
    """Ends all log-ins of this person at once, or all `but` one; returns how many."""
    which = delete(LoginSession).where(LoginSession.user_id == user.id)
    if but is not None:
        which = which.where(LoginSession.id != but)
    ended = len((await session.execute(which.returning(LoginSession.id))).all())
    audit(session, actor, "user.sessions-ended", f"user:{user.username}", {"ended": ended})
    return ended
