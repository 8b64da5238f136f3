"""People: accounts, log-in, sessions, and the audit log."""

import asyncio
from datetime import timedelta
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import AuditEntry, LoginCode, LoginFailure, LoginSession, Role, User
from lefleet_server.db import utc_now
from lefleet_server.problems import NotFound, TooMany, Unauthenticated
from lefleet_server.secret import USER_PREFIX, digest, new_code, new_token

_THROTTLE = timedelta(minutes=15)
_HASHER = PasswordHasher()


def audit(session: AsyncSession, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    """Adds one line to the audit log, committed with whatever it describes."""
    session.add(AuditEntry(actor=actor, action=action, subject=subject, detail=detail))


async def put_user(session: AsyncSession, username: str, role: Role, password: str | None, actor: str) -> bool:
    """Creates the account, or gives an existing one this role and (if any) password; says whether that changed it."""
    existing = (await session.scalars(select(User).where(User.username == username))).one_or_none()
    if existing is not None and await _is_same(existing, role, password):
        return False
    password_hash = await asyncio.to_thread(_HASHER.hash, password) if password is not None else None
    changes: dict[str, Any] = {"role": role.value, "disabled_at": None}
    if password_hash is not None:
        changes["password_hash"] = password_hash
    await session.execute(
        insert(User)
        .values(username=username, role=role.value, password_hash=password_hash)
        .on_conflict_do_update(index_elements=["username"], set_=changes)
    )
    detail = {"role": role.value, "password": password is not None}
    audit(session, actor, "user.changed" if existing else "user.added", f"user:{username}", detail)
    return True


async def create_login_code(session: AsyncSession, username: str, ttl_s: int, actor: str) -> str:
    """A code that logs this person in once, within `ttl_s`."""
    user = (await session.scalars(select(User).where(User.username == username))).one_or_none()
    if user is None or user.disabled_at is not None:
        raise NotFound(f"no account {username!r}; add it with `lefleet-server users add {username}`")
    code = new_code()
    session.add(LoginCode(code_hash=digest(code), user_id=user.id, expires_at=utc_now() + timedelta(seconds=ttl_s)))
    audit(session, actor, "user.login-code", f"user:{username}", {})
    return code


async def check_throttle(session: AsyncSession, username: str | None, address: str, allowed: int) -> None:
    """Raises TooMany after `allowed` failures of this account or address within 15 minutes.

    One-time codes name no account: only the address counts, or a stranger's guesses would lock everyone out.
    """
    since = utc_now() - _THROTTLE
    await session.execute(delete(LoginFailure).where(LoginFailure.at < since))
    same = LoginFailure.address == address
    if username is not None:
        same = or_(LoginFailure.username == username, same)
    if (await session.scalar(select(func.count()).select_from(LoginFailure).where(same)) or 0) >= allowed:
        raise TooMany(
            "too many failed log-ins; wait 15 minutes", headers={"Retry-After": str(int(_THROTTLE.total_seconds()))}
        )


def record_failure(session: AsyncSession, username: str | None, address: str) -> None:
    session.add(LoginFailure(username=username or "", address=address))


async def password_user(session: AsyncSession, username: str, password: str) -> User:
    """The person with this name and password; Unauthenticated does not say which of the two was wrong."""
    user = (await session.scalars(select(User).where(User.username == username))).one_or_none()
    known = user is not None and user.disabled_at is None and user.password_hash is not None
    expected = user.password_hash if user is not None and known else _decoy()
    matches = await asyncio.to_thread(_verify, expected or "", password)
    if user is None or not known or not matches:
        raise Unauthenticated("wrong username or password")
    return user


async def code_user(session: AsyncSession, code: str) -> User:
    """Spends a one-time code; Unauthenticated when it is unknown, used or expired."""
    now = utc_now()
    spend = (
        update(LoginCode)
        .where(LoginCode.code_hash == digest(code), LoginCode.used_at.is_(None), LoginCode.expires_at > now)
        .values(used_at=now)
        .returning(LoginCode.user_id)
    )
    user_id = (await session.execute(spend)).scalar_one_or_none()
    user = await session.get(User, user_id) if user_id is not None else None
    if user is None or user.disabled_at is not None:
        raise Unauthenticated("this log-in link was used or has expired; make one with `lefleet-server login-link`")
    return user


async def open_session(session: AsyncSession, user: User, ttl_s: int) -> str:
    """The token of a new log-in."""
    now = utc_now()
    await session.execute(delete(LoginSession).where(LoginSession.expires_at < now))
    token = new_token(USER_PREFIX)
    expires_at = now + timedelta(seconds=ttl_s)
    session.add(LoginSession(token_hash=digest(token), user_id=user.id, expires_at=expires_at))
    audit(session, f"user:{user.username}", "user.logged-in", f"user:{user.username}", {})
    return token


async def close_session(session: AsyncSession, token: str) -> None:
    await session.execute(delete(LoginSession).where(LoginSession.token_hash == digest(token)))


async def _is_same(user: User, role: Role, password: str | None) -> bool:
    if user.role != role.value or user.disabled_at is not None:
        return False
    return password is None or await asyncio.to_thread(_verify, user.password_hash or "", password)


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


@cache
def _decoy() -> str:
    """Verified against when there is no such account, so that the answer takes as long."""
    return _HASHER.hash("no account has this password")
