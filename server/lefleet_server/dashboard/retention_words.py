"""Retention rules in sentences. Pure."""

from collections.abc import Sequence
from datetime import datetime

from lefleet_server.retention.models import RetentionRun
from lefleet_server.retention.report import Count
from lefleet_server.retention.rules import Rule
from lefleet_server.units import counted, size


def sentence(rule: Rule) -> str:
    """`Failures of robot-1 that nobody judged go once they are older than 30 days.`"""
    scope = f"Episodes that ended as {_either(sorted(rule.outcomes))}" if rule.outcomes else "Episodes"
    scope += f" of {_either(sorted(rule.robots))}" if rule.robots else ""
    scope += {True: ", judged by a person,", False: ", judged by nobody,", None: ""}[rule.labelled]
    limits = [] if rule.older_than_days is None else [f"once older than {_days(rule.older_than_days)}"]
    if rule.quota_bytes is not None:
        limits.append(f"oldest first, while all of them take more than {size(rule.quota_bytes)}")
    return f"{scope} go {' and, '.join(limits)}."


def count(of: Count) -> str:
    return f"{counted(of.episodes)} ({size(of.bytes)})"


def state(run: RetentionRun | None, due: datetime | None, now: datetime, enabled: int) -> str:
    """When rules delete by themselves, up to the instant that is shown behind it (`due` when it is yet to come)."""
    if due is None:
        return (
            "Nothing goes by itself: retention_hour_utc is not set. "
            "On the server, lefleet-server retention --apply deletes what the enabled rules say."
        )
    if not enabled:
        return "Nothing goes: no rule is enabled. The next run would be"
    if run is not None and run.ended_at is None and run.day == now.date():
        return f"A worker is at it now: {count(Count(run.episodes, run.bytes))} so far. The next run is"
    return "The next run begins as soon as a worker is there; it was due" if due <= now else "The next run is"


def last(run: RetentionRun) -> str:
    """What a run that has ended did, up to how long ago it was, which is shown behind it."""
    if not run.refused:
        return f"The last one took {count(Count(run.episodes, run.bytes))}, "
    return (
        f"The last one deleted nothing: {run.refused}. A wrong clock of the server or a slip in a rule looks so; "
        "if they are to go, lefleet-server retention --apply deletes them. That was "
    )


def _days(days: float) -> str:
    return "1 day" if days == 1 else f"{days:g} days"


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
