"""What the log-in page is to say once: in a cookie, so that no link can make it say something else."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping

from starlette.responses import Response

_COOKIE = "lefleet_login_note"
_PATH = "/login"
_MAX_CHARS = 600


def leave(response: Response, text: str, *, secure: bool) -> None:
    said = urlsafe_b64encode(f"{text[:1].upper()}{text[1:_MAX_CHARS]}.".encode()).decode()
    response.set_cookie(_COOKIE, said, max_age=60, path=_PATH, httponly=True, samesite="lax", secure=secure)


def read(cookies: Mapping[str, str]) -> str:
    """Empty when there is nothing to say."""
    try:
        return urlsafe_b64decode(cookies.get(_COOKIE, "").encode()).decode()
    except ValueError:
        return ""


def end(response: Response, *, secure: bool) -> None:
    response.delete_cookie(_COOKIE, path=_PATH, httponly=True, samesite="lax", secure=secure)
