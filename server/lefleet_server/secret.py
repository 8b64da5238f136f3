"""Secrets given out and recognised again: random text outside, its SHA-256 inside."""

import hashlib
import secrets

ROBOT_PREFIX = "lfr_"
USER_PREFIX = "lfu_"


def new_token(prefix: str) -> str:
    """A bearer token with 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def new_code() -> str:
    """A one-time code with 120 random bits, in letters a person can read out."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    groups = ("".join(secrets.choice(alphabet) for _ in range(6)) for _ in range(4))
    return "-".join(groups)


def digest(secret: str) -> bytes:
    """What is stored. Plain SHA-256 is enough for secrets that nobody can guess."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
