"""Which episodes the rules delete. Pure: no clock, no database.

A rule has a scope (outcomes, robots, labelled or not) and one limit or two: an age since the server received the
episode, and bytes that all in its scope may take. An episode in its scope goes when every limit that the rule has is
passed; judged oldest first, so a quota keeps the newest. Whatever is held stays, and its bytes count.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Rule:
    """At least one limit; an empty set does not restrict."""

    name: str
    older_than_days: float | None = None
    quota_bytes: int | None = None
    outcomes: frozenset[str] = frozenset()
    robots: frozenset[str] = frozenset()
    labelled: bool | None = None
    """Only what a person judged (True), or only what nobody did (False)."""

    def __post_init__(self) -> None:
        if self.older_than_days is None and self.quota_bytes is None:
            raise ValueError(
                f"rule {self.name}: set older_than_days or quota_bytes; without, it would delete everything"
            )

    @property
    def words(self) -> str:
        """What it does, for people."""
        parts = [] if self.older_than_days is None else [f"older than {self.older_than_days:g} days"]
        parts += [] if self.quota_bytes is None else [f"beyond {self.quota_bytes} bytes"]
        parts += [f"outcome {' or '.join(sorted(self.outcomes))}"] if self.outcomes else []
        parts += [f"of {', '.join(sorted(self.robots))}"] if self.robots else []
        parts += {True: ["labelled"], False: ["not labelled"], None: []}[self.labelled]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Group:
    """Episodes that no scope tells apart, and the bytes of all of them."""

    robot_id: str
    result: str
    labelled: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """What rules know of one episode."""

    id: str
    robot_id: str
    result: str
    labelled: bool
    bytes: int
    received_at: datetime
    """By the server's clock: a robot's may be decades off."""
    held: bool = False


def covers(rule: Rule, it: Group | Candidate) -> bool:
    """Whether it is in the rule's scope."""
    return (
        (not rule.outcomes or it.result in rule.outcomes)
        and (not rule.robots or it.robot_id in rule.robots)
        and (rule.labelled is None or it.labelled == rule.labelled)
    )


@dataclass
class Plan:
    """Judges episodes, given oldest first, and counts what is left in each rule's scope."""

    rules: Sequence[Rule]
    now: datetime
    left_bytes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Sequence[Rule], groups: Iterable[Group], now: datetime) -> "Plan":
        left = dict.fromkeys((rule.name for rule in rules), 0)
        for group in groups:
            for rule in rules:
                left[rule.name] += group.bytes if covers(rule, group) else 0
        return cls(rules, now, left)

    def judge(self, it: Candidate) -> Rule | None:
        """The first rule by which it goes, held or not; None when it stays."""
        return next((rule for rule in self.rules if covers(rule, it) and self._passed(rule, it)), None)

    def gone(self, it: Candidate) -> None:
        """It was deleted: later quotas have less to keep."""
        for rule in self.rules:
            if covers(rule, it):
                self.left_bytes[rule.name] -= it.bytes

    def horizon(self) -> datetime | None:
        """Nothing received after this goes by any rule; None when a quota may take anything."""
        ages = [rule.older_than_days for rule in self.rules]
        known = [age for age in ages if age is not None]
        return self.now - timedelta(days=min(known)) if known and len(known) == len(ages) else None

    def _passed(self, rule: Rule, it: Candidate) -> bool:
        old = rule.older_than_days is None or it.received_at < self.now - timedelta(days=rule.older_than_days)
        return old and (rule.quota_bytes is None or self.left_bytes[rule.name] > rule.quota_bytes)


def verdicts(plan: Plan, oldest_first: Iterable[Candidate]) -> Iterator[tuple[Candidate, Rule]]:
    """What goes, or would go were it not held, and by which rule."""
    for it in oldest_first:
        rule = plan.judge(it)
        if rule is None:
            continue
        if not it.held:
            plan.gone(it)
        yield it, rule
