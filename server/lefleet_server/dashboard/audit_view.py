"""Which entries of the audit log a page shows. Lives in the URL, so that a view can be kept and sent. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self
from urllib.parse import urlencode

from lefleet_server.audit.service import AuditFilter
from lefleet_server.dashboard.filters import SPANS, instant, iso, row_id

PATH = "/audit"


@dataclass(frozen=True, slots=True)
class AuditView:
    """None does not restrict. `before` is the place of the page."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    last: str | None = None
    """One of SPANS: counted back from now."""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """Reads a URL's query. What it cannot read it leaves out: an old link must still show something."""
        return cls(
            actor=word(query.get("actor")),
            action=word(query.get("action")),
            subject=word(query.get("subject")),
            last=query.get("last") if query.get("last") in SPANS else None,
            since=instant(query.get("since")),
            until=instant(query.get("until")),
            before=row_id(query.get("before")),
        )

    @property
    def is_set(self) -> bool:
        return replace(self, before=None) != AuditView()

    def filter(self, now: datetime) -> AuditFilter:
        since = now - SPANS[self.last] if self.last else self.since
        return AuditFilter(self.actor, self.action, self.subject, since, self.until)

    def changed(self, **changes: Any) -> Self:
        """Other filters begin on the first page."""
        return replace(self, **{"before": None} | changes)

    def address(self) -> str:
        values = {
            "actor": self.actor,
            "action": self.action,
            "subject": self.subject,
            "last": self.last,
            "since": self.since and iso(self.since),
            "until": self.until and iso(self.until),
            "before": self.before,
        }
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{PATH}?{query}" if query else PATH


def word(text: str | None) -> str | None:
    """What a person typed, as long and as clean as the database takes it; None for nothing."""
    return (text or "").strip()[:300].replace("\x00", "") or None
