"""What people may do, and what a token may do for them."""

from enum import StrEnum


class Role(StrEnum):
    """Each role may do what the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Scope(StrEnum):
    """What an API token was made for. It never does more than its owner may: the role counts too."""

    READ = "read"
    """Whatever the owner may look at."""
    OPERATE = "operate"
    """What an operator changes: labels, emergency stops."""
    ADMIN = "admin"
    """What an administrator changes and sees: people, robots' credentials, the audit log."""
    METRICS = "metrics"
    """The server's and the robots' metrics, for Prometheus."""
