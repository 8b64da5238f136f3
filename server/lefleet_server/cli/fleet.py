"""The fleet as the dashboard's fleet page shows it: the same filters, the same order, the same words. Pure."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

import typer
from rich.text import Text

from lefleet_server.cli.output import Cell, Item, clean, size, word
from lefleet_server.units import repo_name, short_commit

HEALTH = ("bad", "warn", "good", "off")
TONES = {"bad": "red", "warn": "yellow", "good": "green", "off": "dim"}
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Criteria:
    """As the fleet page keeps them in its address (dashboard/static/fleet); empty does not restrict."""

    q: str = ""
    """Words, each of which has to be somewhere in what is shown of a robot."""
    health: str = ""
    policy: str = ""
    release: str = ""
    """`NAME@COMMIT`, the last part of the policy and the first seven letters of the commit."""
    site: str = ""
    sort: str = "name"
    """One of ORDERS; with `-` before it the other way round."""

    @classmethod
    def parse(cls, query: str) -> Self:
        """Of a view that was kept; what the command line does not have (cards or table) is left out."""
        said = dict(reversed(parse_qsl(query)))  # of two of a name the first counts, as in a browser
        return cls(**{each.name: said[each.name] for each in fields(cls) if each.name in said})

    @property
    def query(self) -> str:
        """As a browser writes it: the page finds by this text which view it shows."""
        said = [(each.name, getattr(self, each.name)) for each in fields(self)]
        usual = Criteria()
        return urlencode(
            [(name, value) for name, value in said if value and value != getattr(usual, name)], safe="*"
        ).replace("~", "%7E")


def chosen(robots: Iterable[Item], criteria: Criteria) -> list[Item]:
    """Those that match, in the page's order; what a robot did not say comes last."""
    words = criteria.q.lower().split()
    found = [robot for robot in robots if _matches(robot, criteria, words)]
    found.sort(key=lambda robot: _natural(robot["id"]))
    key = ORDERS.get(criteria.sort.removeprefix("-"), ORDERS["name"])
    known = [robot for robot in found if key(robot) is not None]
    known.sort(key=key, reverse=criteria.sort.startswith("-"))
    return known + [robot for robot in found if key(robot) is None]


def sort_option(text: str | None) -> str | None:
    """Raises BadParameter."""
    if text is not None and text.removeprefix("-") not in ORDERS:
        raise typer.BadParameter(f"{text!r}: is none of {', '.join(ORDERS)} (or -{next(iter(ORDERS))}: downwards)")
    return text


def repo(robot: Item) -> str:
    return (_said(robot, "policy").get("repo")) or ""


def release(robot: Item) -> str:
    """As the fleet page calls what a robot runs."""
    policy = _said(robot, "policy")
    commit = policy.get("commit") or policy.get("digest") or ""
    return f"{repo_name(repo(robot))}@{short_commit(commit)}" if repo(robot) else "No policy"


def state(robot: Item) -> Text:
    shown = word(robot["state"])
    stop = robot["estop"]["state"]
    return shown if stop == "free" else Text.assemble(shown, " ", word(stop))


def health(robot: Item) -> Cell:
    """What a person should see to, or that it is well. A server of the release before tells neither."""
    if "health" not in robot:
        return ""
    usual = "well" if robot["health"] == "good" else ""
    return Text(clean("; ".join(issue["text"] for issue in robot["issues"]) or usual), TONES.get(robot["health"], ""))


def told(robot: Item, part: str, name: str, form: str) -> str:
    """A value of the last heartbeat; empty when the robot said none."""
    value = _said(robot, part).get(name)
    return "" if value is None else form.format(value)


def disk_free(robot: Item) -> str:
    disk = _said(robot, "disk")
    return size(disk["free_bytes"]) if disk else ""


def _said(robot: Item, part: str) -> Item:
    return (robot["heartbeat"] or {}).get(part) or {}


def _matches(robot: Item, criteria: Criteria, words: Sequence[str]) -> bool:
    asked = (
        (criteria.health, robot.get("health")),
        (criteria.policy, repo(robot)),
        (criteria.release, release(robot)),
        (criteria.site, robot["site"]),
    )
    if any(wanted and wanted != is_ for wanted, is_ in asked):
        return False
    shown = (robot["id"], robot["site"], robot["state"], robot.get("line", ""), repo(robot), release(robot))
    text = " ".join(shown).lower()
    return all(each in text for each in words)


def _natural(text: str) -> list[Any]:
    """robot-2 before robot-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in _DIGITS.split(text)]


def _live(robot: Item, name: str) -> float | None:
    """Of the loop, while the robot is heard."""
    return _said(robot, "loop").get(name) if robot["online"] else None


def _part(used: float | None, whole: float | None) -> float | None:
    return None if used is None or not whole else used / whole


def _spool(robot: Item) -> float | None:
    spool = _said(robot, "spool")
    return _part(spool.get("bytes"), spool.get("budget_bytes"))


def _disk(robot: Item) -> float | None:
    disk = _said(robot, "disk")
    free = _part(disk.get("free_bytes"), disk.get("total_bytes"))
    return None if free is None else 1 - free


def _celsius(robot: Item) -> float | None:
    motors = robot.get("arm", {}).get("motors", {}).values()
    known = [each["temperature_celsius"] for each in motors if each["temperature_celsius"] is not None]
    return max(known, default=None)


def _seen(robot: Item) -> float | None:
    at = robot["last_seen_at"]
    return None if at is None else datetime.fromisoformat(at).timestamp()


ORDERS: dict[str, Callable[[Item], Any]] = {
    "name": lambda robot: _natural(robot["id"]),
    "state": lambda robot: _natural(robot["state"]),
    "health": lambda robot: HEALTH.index(robot["health"]) if robot.get("health") in HEALTH else None,
    "policy": lambda robot: _natural(release(robot)),
    "hz": lambda robot: _live(robot, "hz"),
    "late": lambda robot: _live(robot, "lateness_ms_p99"),
    "spool": _spool,
    "disk": _disk,
    "celsius": _celsius,
    "seen": _seen,
}
