"""What the rules took, or would take."""

from dataclasses import dataclass, field

from lefleet_server.retention.rules import Candidate, Rule

EXAMPLES = 100
"""Episodes that a report names; its counts are of all."""


@dataclass
class Count:
    episodes: int = 0
    bytes: int = 0

    def add(self, it: Candidate) -> None:
        self.add_all(1, it.bytes)

    def add_all(self, episodes: int, size: int) -> None:
        self.episodes += episodes
        self.bytes += size


@dataclass
class Report:
    """What the rules took, or with `applied` False would take."""

    applied: bool
    total: Count = field(default_factory=Count)
    rules: dict[str, Count] = field(default_factory=dict)
    held: Count = field(default_factory=Count)
    """Would go, were it not under a legal hold."""
    changed: int = 0
    """Held, labelled or deleted by somebody between the look and the deed, and so left alone."""
    examples: list[tuple[str, str]] = field(default_factory=list)
    """(episode, rule), the oldest."""
    held_examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, it: Candidate, rule: Rule) -> None:
        self.total.add(it)
        self.rules.setdefault(rule.name, Count()).add(it)
        if len(self.examples) < EXAMPLES:
            self.examples.append((it.id, rule.name))

    def keep(self, it: Candidate, rule: Rule) -> None:
        """It is held."""
        self.held.add(it)
        if len(self.held_examples) < EXAMPLES:
            self.held_examples.append((it.id, rule.name))
