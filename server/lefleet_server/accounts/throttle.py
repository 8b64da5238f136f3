"""Guessing passwords slowed down, per account and per address, across all processes of the server."""

import ipaddress
from datetime import timedelta

from sqlalchemy import delete, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import LoginFailure
from lefleet_server.db import is_near
from lefleet_server.problems import TooMany

_SPAN = timedelta(minutes=15)


async def admit(session: AsyncSession, username: str | None, address: str, allowed: int) -> int:
    """Counts an attempt as failed, until `forgive`; raises TooMany after `allowed` of this account or address.

    Counted before the password is looked at, under locks: a hundred guesses at once are a hundred. One-time codes
    name no account: only the address counts, or a stranger's guesses would lock everyone out.
    """
    place = network(address)
    for key in sorted({f"address {place}", f"account {username}"} if username is not None else {f"address {place}"}):
        await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})
    await session.execute(delete(LoginFailure).where(~is_near(LoginFailure.at, _SPAN)))
    same = LoginFailure.address == place
    if username is not None:
        same = or_(LoginFailure.username == username, same)
    if (await session.scalar(select(func.count()).select_from(LoginFailure).where(same)) or 0) >= allowed:
        raise TooMany(
            "too many failed log-ins; wait 15 minutes", headers={"Retry-After": str(int(_SPAN.total_seconds()))}
        )
    attempt = LoginFailure(username=username or "", address=place)
    session.add(attempt)
    await session.flush()
    return attempt.id


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
