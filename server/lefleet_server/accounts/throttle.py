"""Guessing passwords slowed down, per address and per account, across all processes of the server."""

import ipaddress
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import LoginFailure, LoginSession, User
from lefleet_server.audit.models import AuditEntry
from lefleet_server.audit.service import audit
from lefleet_server.db import Database, is_near, utc_now
from lefleet_server.problems import TooMany

ADDRESSES = 10
"""How many addresses must use up their guesses at one account before others have to wait, too."""
_SPAN = timedelta(minutes=15)
_THROTTLED = "user.throttled"


async def admit(db: Database, username: str | None, address: str, allowed: int) -> int:
    """Counts an attempt as failed, until `forgive`; raises TooMany after `allowed` of this address.

    Counted before the password is looked at, under locks: a hundred guesses at once are a hundred. An account bears
    more of them than an address, or a stranger's guesses would lock its owner out; one-time codes name no account.
    """
    place = network(address)
    # Its own transaction: whatever comes of the attempt, its count must stay, and so must what the audit log says.
    async with db.transaction() as session:
        await _lock(session, username, place)
        await session.execute(delete(LoginFailure).where(~is_near(LoginFailure.at, _SPAN)))
        if await _count(session, _at(place)) >= allowed:
            await _note(session, f"address:{place}", _at(place))
        elif username is not None and await _is_guessed(session, username, place, allowed * ADDRESSES):
            await _note(session, f"user:{username}", LoginFailure.username == username)
        else:
            attempt = LoginFailure(username=username or "", address=place)
            session.add(attempt)
            await session.flush()
            return attempt.id
    raise TooMany("too many failed log-ins; wait 15 minutes", headers={"Retry-After": str(int(_SPAN.total_seconds()))})


async def forgive(session: AsyncSession, attempt: int) -> None:
    """It was no failure."""
    await session.execute(delete(LoginFailure).where(LoginFailure.id == attempt))


def network(address: str) -> str:
    """What counts as one address: of IPv6 the /64, which whoever has one address has whole."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]  # a proxy's word that is no address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


async def _lock(session: AsyncSession, username: str | None, place: str) -> None:
    names = {f"address {place}"} | ({f"account {username}"} if username is not None else set())
    for key in sorted(names):
        await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


def _at(place: str) -> ColumnElement[bool]:
    return LoginFailure.address == place


async def _count(session: AsyncSession, which: ColumnElement[bool]) -> int:
    return await session.scalar(select(func.count()).select_from(LoginFailure).where(which)) or 0


async def _is_guessed(session: AsyncSession, username: str, place: str, allowed: int) -> bool:
    """Whether this account's failures make its owner wait: never where they are logged in now."""
    if await _count(session, LoginFailure.username == username) < allowed:
        return False
    theirs = select(LoginSession.address).join(User).where(User.username == username)
    found = await session.scalars(theirs.where(LoginSession.expires_at > utc_now()))
    return place not in map(network, found)


async def _note(session: AsyncSession, subject: str, which: ColumnElement[bool]) -> None:
    """Leaves one entry for each span in the audit log, which outlives the counts.

    It names accounts that there are: other names may be passwords in the wrong field.
    """
    noted = select(AuditEntry.id).where(AuditEntry.subject == subject, AuditEntry.action == _THROTTLED)
    if (await session.scalars(noted.where(is_near(AuditEntry.at, _SPAN)).limit(1))).first() is not None:
        return
    names = select(LoginFailure.username).join(User, User.username == LoginFailure.username).where(which).distinct()
    accounts = sorted(await session.scalars(names))
    if accounts or subject.startswith("address:"):
        audit(session, "server", _THROTTLED, subject, {"failed": await _count(session, which), "accounts": accounts})
