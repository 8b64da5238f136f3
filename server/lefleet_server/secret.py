"""Secrets given out and recognised again (random text outside, its SHA-256 inside), and those read from files."""

import hashlib
import secrets
from pathlib import Path

ROBOT_PREFIX = "lfr_"
USER_PREFIX = "lfu_"
TOKEN_PREFIX = "lft_"  # noqa: S105 - how every API token begins, no secret


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


class SecretFileError(OSError):
    """A file that should hold a secret does not; the message names it, never what is in it."""


def read_secret(path: Path) -> str:
    """The one line that the file holds."""
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n")
    except OSError as error:
        raise SecretFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SecretFileError(f"{path}: is not UTF-8 text") from error
    if not text or "\n" in text:
        raise SecretFileError(f"{path}: must hold one line, the secret")
    return text
