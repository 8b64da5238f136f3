"""People: accounts, passwords, one-time log-in codes."""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts import sessions, tokens
from lefleet_server.accounts.models import LoginCode, LoginSession, Role, User
from lefleet_server.accounts.passwords import hashed, matches
from lefleet_server.audit.service import audit
from lefleet_server.db import is_near, utc_now
from lefleet_server.problems import Conflict, Forbidden, NotFound, Unauthenticated
from lefleet_server.secret import digest, new_code
from lefleet_server.units import lasting

FIRST_PASSWORD_WITHIN = timedelta(minutes=10)
"""Of a log-in: later an unlocked screen could be somebody else's, who would keep a way in that no provider knows."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How many ways into an account a new password closed."""

    sessions: int = 0
    links: int = 0
    tokens: int = 0


async def get_user(session: AsyncSession, username: str, *, lock: bool = False) -> User:
    query = select(User).where(User.username == username)
    user = (await session.scalars(query.with_for_update() if lock else query)).one_or_none()
    if user is None:
        raise NotFound(f"no account {username!r}; add it with `lefleet-server users add {username}`")
    return user


async def put_user(session: AsyncSession, username: str, role: Role, password: str | None, actor: str) -> Ended | None:
    """Creates the account, or gives an existing one this role and (if any) password; None when it was so already.

    Another password ends whatever the old one may have opened: sessions, log-in links and tokens.
    """
    same_name = select(User).where(User.username == username).with_for_update()
    existing = (await session.scalars(same_name)).one_or_none()
    known = existing is not None and password is not None and await matches(existing.password_hash, password)
    password_hash = await hashed(password) if password is not None and not known else None
    if existing is not None and password_hash is None and existing.role == role and existing.disabled_at is None:
        return None
    changes: dict[str, Any] = {"role": role.value, "disabled_at": None}
    if password_hash is not None:
        changes["password_hash"] = password_hash
    await session.execute(
        insert(User)
        .values(username=username, role=role.value, password_hash=password_hash)
        .on_conflict_do_update(index_elements=["username"], set_=changes)
    )
    detail: dict[str, Any] = {"role": role.value, "password": password_hash is not None}
    ended = Ended()
    if existing is not None and password_hash is not None:
        ended = Ended(
            await sessions.end_sessions(session, existing, actor),
            await _end_links(session, existing),
            await tokens.revoke_tokens(session, existing, actor),
        )
        detail["ended"] = asdict(ended)
    audit(session, actor, "user.changed" if existing else "user.added", f"user:{username}", detail)
    return ended


async def add_user(session: AsyncSession, username: str, role: Role, actor: str) -> User:
    """A new account, entered by log-in links until it has a password. Raises Conflict when the name is taken."""
    new = insert(User).values(username=username, role=role.value).on_conflict_do_nothing()
    if (await session.execute(new.returning(User.id))).scalar_one_or_none() is None:
        raise Conflict(f"there is an account {username!r} already", fields=[("username", "is taken")])
    audit(session, actor, "user.added", f"user:{username}", {"role": role.value, "password": False})
    return await get_user(session, username)


async def change_user(
    session: AsyncSession, username: str, actor: str, role: Role | None = None, disabled: bool | None = None
) -> User:
    """Another role, or out of or into the house. Whoever is disabled is out at once: their sessions and links end.

    Raises NotFound, and Conflict when nobody would be left to administer.
    """
    admins = select(User).where(User.role == Role.ADMIN, User.disabled_at.is_(None)).order_by(User.id)
    others = [user for user in await session.scalars(admins.with_for_update()) if user.username != username]
    user = await get_user(session, username, lock=True)
    old = {"role": user.role, "disabled": user.disabled_at is not None}
    new = {
        "role": user.role if role is None else role.value,
        "disabled": old["disabled"] if disabled is None else disabled,
    }
    if new == old:
        return user
    was_admin = old == {"role": Role.ADMIN.value, "disabled": False}
    if was_admin and not others:
        raise Conflict(f"{username} is the last administrator; make another one first")
    user.role = str(new["role"])
    user.disabled_at = (user.disabled_at or utc_now()) if new["disabled"] else None
    audit(session, actor, "user.changed", f"user:{username}", {"old": old, "new": new})
    if new["disabled"] and not old["disabled"]:
        await sessions.end_sessions(session, user, actor)
        await _end_links(session, user)
    await session.flush()
    return user


async def change_password(session: AsyncSession, username: str, old: str | None, new: str, keep: int | None) -> int:
    """Sets the person's own password; ends their log-in links and other sessions, all but `keep`.

    Returns how many of their tokens go on working. Who has a password must know it, who has none must just have
    logged in, or an unlocked screen would be enough; Forbidden otherwise.
    """
    user = await get_user(session, username, lock=True)
    if user.password_hash is None:
        await _require_fresh(session, keep)
    elif not await matches(user.password_hash, old or ""):
        raise Forbidden("the old password is wrong", fields=[("old", "is not this account's password")])
    user.password_hash = await hashed(new)
    links = await _end_links(session, user)
    audit(session, f"user:{username}", "user.password-changed", f"user:{username}", {"links_ended": links})
    await sessions.end_sessions(session, user, f"user:{username}", but=keep)
    return len(await tokens.list_tokens(session, user.id))


async def create_login_code(session: AsyncSession, username: str, ttl_s: int, actor: str) -> str:
    """A code that logs this person in once, within `ttl_s`."""
    user = await get_user(session, username)
    if user.disabled_at is not None:
        raise NotFound(f"no account {username!r} that may log in: it is disabled")
    code = new_code()
    session.add(LoginCode(code_hash=digest(code), user_id=user.id, expires_at=utc_now() + timedelta(seconds=ttl_s)))
    audit(session, actor, "user.login-code", f"user:{username}", {})
    return code


async def password_user(session: AsyncSession, username: str, password: str, otherwise: str | None = None) -> User:
    """The person with this name and password; Unauthenticated does not say which of the two was wrong.

    `otherwise`: how people without a password get in, which the refusal says then, whoever asked.
    """
    user = (await session.scalars(select(User).where(User.username == username))).one_or_none()
    known = user is not None and user.disabled_at is None
    right = await matches(user.password_hash if user is not None and known else None, password)
    if user is None or not right:
        raise Unauthenticated("wrong username or password", fields=[("password", otherwise)] if otherwise else ())
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


async def _end_links(session: AsyncSession, user: User) -> int:
    """Ends the log-in links that nobody has used yet; returns how many could still be."""
    gone = delete(LoginCode).where(LoginCode.user_id == user.id, LoginCode.used_at.is_(None))
    return sum(at > utc_now() for at in await session.scalars(gone.returning(LoginCode.expires_at)))


async def _require_fresh(session: AsyncSession, session_id: int | None) -> None:
    fresh = is_near(LoginSession.created_at, FIRST_PASSWORD_WITHIN)
    query = select(LoginSession.id).where(LoginSession.id == session_id, fresh)
    if (await session.scalars(query)).one_or_none() is None:
        span = lasting(FIRST_PASSWORD_WITHIN.total_seconds())
        raise Forbidden(
            f"this account has no password yet: log in again, then set one within {span}",
            fields=[("new", f"needs a log-in of the last {span}")],
        )
