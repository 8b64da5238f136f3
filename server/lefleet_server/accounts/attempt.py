"""One person's log-in on its way to a provider and back, remembered by their browser alone.

Everything that must not be guessed follows from one secret in a cookie: who comes back with another browser's answer
has another secret. So an anonymous question writes no row, and the answer may come to any process of the server.
"""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self
from urllib.parse import urlsplit

MAX_AGE_S = 600
_NEXT_MAX = 2000


@dataclass(frozen=True, slots=True)
class Attempt:
    secret: str = field(repr=False)
    target: str
    """The page that the person wanted, on this server."""

    @classmethod
    def begin(cls, target: str) -> Self:
        return cls(secrets.token_urlsafe(32), own_path(target))

    @classmethod
    def from_cookie(cls, text: str) -> Self | None:
        """None for anything that is no attempt."""
        secret, _, target = text.partition(".")
        try:
            page = urlsafe_b64decode(target.encode() + b"==").decode()
        except ValueError:
            return None
        return cls(secret, own_path(page)) if len(secret) == len(secrets.token_urlsafe(32)) else None

    def cookie(self) -> str:
        return f"{self.secret}.{_text(self.target.encode())}"

    @property
    def state(self) -> str:
        return self._derived("state")

    @property
    def nonce(self) -> str:
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """Of PKCE, RFC 7636."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        return _text(sha256(self.verifier.encode()).digest())

    def is_answered_by(self, state: str) -> bool:
        return hmac.compare_digest(state.encode(), self.state.encode())

    def _derived(self, what: str) -> str:
        return _text(hmac.digest(self.secret.encode(), what.encode(), sha256))


def own_path(target: str) -> str:
    """A page of this server; `/` for whatever would lead elsewhere."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    # Browsers take a backslash for a slash, and leave control characters out.
    strange = "\\" in target or not target.isprintable() or len(target) > _NEXT_MAX
    elsewhere = parts.scheme or parts.netloc or not target.startswith("/") or target.startswith("//")
    return "/" if strange or elsewhere else target


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
