"""Which episodes a page shows. Lives in the URL, so that a view can be kept and sent. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlencode

from lefleet_server.dashboard.quality import QUALITIES, restricts
from lefleet_server.episodes.service import EpisodeFilter
from lefleet_server.fields import INT64_MAX

OUTCOMES = ("success", "failure", "unknown")
SPANS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
_WORDS = {"yes": True, "no": False}
_SAID = {True: "yes", False: "no", None: None}


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the order of episodes: by start, then by id."""

    started_at: datetime
    id: str

    def __str__(self) -> str:
        return f"{self.started_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}~{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError when `text` was not made by str()."""
        started_at, _, id_ = text.partition("~")
        return cls(datetime.strptime(started_at, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC), id_)


@dataclass(frozen=True, slots=True)
class Filters:
    """None does not restrict. `before` and `after` are the places of the page; at most one is set."""

    robot: str | None = None
    policy: str | None = None
    release: str | None = None
    """A commit of the policy; none without it."""
    task: str | None = None
    outcome: str | None = None
    interrupted: bool | None = None
    quality: str | None = None
    """One of QUALITIES."""
    labelled: bool | None = None
    in_set: str | None = None
    last: str | None = None
    """One of SPANS: counted back from now, so that a kept link stays about the recent past."""
    since: datetime | None = None
    until: datetime | None = None
    before: Cursor | None = None
    after: Cursor | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """Reads a URL's query. What it cannot read it leaves out: an old link must still show something."""
        outcome = query.get("outcome")
        policy = query.get("policy") or None
        before, after = _cursor(query.get("before")), _cursor(query.get("after"))
        return cls(
            robot=query.get("robot") or None,
            policy=policy,
            release=query.get("release") or None if policy else None,
            task=query.get("task") or None,
            outcome=outcome if outcome in OUTCOMES else None,
            interrupted=_WORDS.get(query.get("interrupted", "")),
            quality=query.get("quality") if query.get("quality") in QUALITIES else None,
            labelled=_WORDS.get(query.get("labelled", "")),
            in_set=query.get("set") or None,
            last=query.get("last") if query.get("last") in SPANS else None,
            since=instant(query.get("since")),
            until=instant(query.get("until")),
            before=before,
            after=None if before else after,
        )

    @property
    def is_set(self) -> bool:
        return self.first_page() != Filters()

    def begins(self, now: datetime) -> datetime | None:
        """The earliest start that matches."""
        return now - SPANS[self.last] if self.last else self.since

    def which(self, now: datetime) -> EpisodeFilter:
        """What it means now; the place of the page is no part of it."""
        return EpisodeFilter(
            robot=self.robot,
            policy=self.policy,
            release=self.release,
            task=self.task,
            outcome=self.outcome,
            since=self.begins(now),
            until=self.until,
            interrupted=self.interrupted,
            labelled=self.labelled,
            in_set=self.in_set,
            **(restricts(self.quality) if self.quality else {}),
        )

    def first_page(self) -> Self:
        return replace(self, before=None, after=None)

    def changed(self, **changes: Any) -> Self:
        """Other filters begin on the first page."""
        return replace(self.first_page(), **changes)

    def address(self, path: str) -> str:
        """`path` with these filters as its query."""
        values = {
            "robot": self.robot,
            "policy": self.policy,
            "release": self.release,
            "task": self.task,
            "outcome": self.outcome,
            "quality": self.quality,
            "interrupted": _SAID[self.interrupted],
            "labelled": _SAID[self.labelled],
            "set": self.in_set,
            "last": self.last,
            "since": self.since and iso(self.since),
            "until": self.until and iso(self.until),
            "before": self.before and str(self.before),
            "after": self.after and str(self.after),
        }
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{path}?{query}" if query else path


def iso(at: datetime) -> str:
    """UTC, as a URL keeps it."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def instant(text: str | None) -> datetime | None:
    """What `iso` wrote, or a person; None for anything else."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def row_id(text: str | None) -> int | None:
    """A number as the database counts its rows; None for anything else."""
    # By its length first: Python reads no more than 4300 digits.
    digits = text if text and text.isascii() and text.isdigit() and len(text) <= len(str(INT64_MAX)) else None
    return int(digits) if digits and int(digits) <= INT64_MAX else None


def _cursor(text: str | None) -> Cursor | None:
    try:
        return Cursor.parse(text or "")
    except ValueError:
        return None
