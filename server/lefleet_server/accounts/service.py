"""People: accounts, passwords, one-time log-in codes."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts import sessions
from lefleet_server.accounts.models import LoginCode, Role, User
from lefleet_server.accounts.passwords import hashed, matches
from lefleet_server.audit.service import audit
from lefleet_server.db import utc_now
from lefleet_server.problems import Conflict, Forbidden, NotFound, Unauthenticated
from lefleet_server.secret import digest, new_code


async def list_users(session: AsyncSession) -> Sequence[User]:
    """Everybody, by name."""
    return (await session.scalars(select(User).order_by(User.username))).all()


async def get_user(session: AsyncSession, username: str, *, lock: bool = False) -> User:
    query = select(User).where(User.username == username)
    user = (await session.scalars(query.with_for_update() if lock else query)).one_or_none()
    if user is None:
        raise NotFound(f"no account {username!r}; add it with `lefleet-server users add {username}`")
    return user


async def put_user(session: AsyncSession, username: str, role: Role, password: str | None, actor: str) -> bool:
    """Creates the account, or gives an existing one this role and (if any) password; says whether that changed it."""
    existing = (await session.scalars(select(User).where(User.username == username))).one_or_none()
    if existing is not None and await _is_same(existing, role, password):
        return False
    password_hash = await hashed(password) if password is not None else None
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
        await session.execute(delete(LoginCode).where(LoginCode.user_id == user.id))
    await session.flush()
    return user


async def change_password(session: AsyncSession, username: str, old: str | None, new: str, keep: int | None) -> None:
    """Sets the person's own password and ends their other sessions, all but `keep`.

    Who has one must know it, or an unlocked screen would be enough; Forbidden otherwise.
    """
    user = await get_user(session, username, lock=True)
    if user.password_hash is not None and not await matches(user.password_hash, old or ""):
        raise Forbidden("the old password is wrong", fields=[("old", "is not this account's password")])
    user.password_hash = await hashed(new)
    audit(session, f"user:{username}", "user.password-changed", f"user:{username}", {})
    await sessions.end_sessions(session, user, f"user:{username}", but=keep)


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


async def _is_same(user: User, role: Role, password: str | None) -> bool:
    if user.role != role.value or user.disabled_at is not None:
        return False
    return password is None or await matches(user.password_hash, password)
