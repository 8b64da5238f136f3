"""argon2id, off the event loop."""

import asyncio
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

_HASHER = PasswordHasher()


async def hashed(password: str) -> str:
    return await asyncio.to_thread(_HASHER.hash, password)


async def matches(password_hash: str | None, password: str) -> bool:
    """Takes as long when there is no hash: the time must not tell who has an account."""
    return await asyncio.to_thread(_verify, password_hash, password)


def _verify(password_hash: str | None, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash or _decoy(), password) and password_hash is not None
    except (VerifyMismatchError, InvalidHashError):
        return False


@cache
def _decoy() -> str:
    return _HASHER.hash("no account has this password")
