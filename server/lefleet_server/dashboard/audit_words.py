"""The audit log in people's words. Pure: whatever an entry holds, something readable comes out."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from lefleet_server.dashboard.filters import Filters
from lefleet_server.units import DASH

# How actions begin: `user` also finds `user.added`.
KINDS = {
    "user": "People and log-ins",
    "token": "Tokens",
    "robot": "Robots",
    "episode": "Episodes",
    "set": "Sets",
    "hold": "Holds",
    "retention": "Retention rules",
    "jobs": "Jobs",
    "store": "Store",
    "view": "Saved views",
}


def phrase(action: str) -> str:
    """`user.password-changed` becomes `User password changed`."""
    text = action.replace(".", " ").replace("-", " ").replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def name_of(who: str) -> str:
    """Of an actor or a subject: `user:ada` becomes `ada`; an episode is known by the beginning of its id."""
    kind, found, rest = who.partition(":")
    if kind == "episode":
        return f"{rest[:10]}…"
    return rest if found and kind in {"user", "robot"} else who


def place_of(subject: str) -> str | None:
    """The page about a subject, where there is one."""
    kind, _, rest = subject.partition(":")
    if not rest:
        return {"store": "/storage", "jobs": "/jobs"}.get(kind)
    if kind == "retention-rule":
        return "/storage"
    if kind == "user":
        return f"/people/{quote(rest, safe='')}"
    if kind == "episode":
        return f"/episodes/{quote(rest, safe='')}"
    return Filters(robot=rest).address("/episodes") if kind == "robot" else None


def changes(detail: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, what it is or how it changed) for each thing that an entry's detail says."""
    old, new = detail.get("old"), detail.get("new")
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            before, after = value(old.get(name)), value(new.get(name))
            if before != after:
                yield readable(name), f"{before} → {after}"
    elif "old" in detail and "new" in detail:
        yield "Changed", f"{value(old)} → {value(new)}"
    for name, found in detail.items():
        if name not in {"old", "new"} or not ("old" in detail and "new" in detail):
            yield readable(name), value(found)


def instant_of(text: str) -> datetime | None:
    """The instant that a value tells in ISO 8601 with its zone; None for any other text."""
    try:
        at = datetime.fromisoformat(text) if len(text) >= len("2026-01-01T00:00:00Z") else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None


def readable(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def value(found: Any) -> str:
    """A value of JSON in one line."""
    if found is None or found in ("", [], {}):
        return DASH
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, list):
        return ", ".join(value(each) for each in found)
    if isinstance(found, dict):
        return ", ".join(f"{readable(str(name))} {value(each)}" for name, each in found.items())
    return str(found)
