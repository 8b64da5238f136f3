"""What Prometheus alerts about beyond single robots, and that it is not heard."""

from collections.abc import Sequence
from datetime import datetime

from nicegui import ui

from lefleet_server.alerts import Firing
from lefleet_server.dashboard.parts import Text, Time, box, set_attribute
from lefleet_server.robots.state import Issue, alerting


def chips(element: ui.element, issues: Sequence[Issue]) -> None:
    """Shows these issues in it, and no others."""
    element.clear()
    with element:
        for issue in issues:
            set_attribute(Text(issue.text, "lf-issue", tag="span"), "data-tone", issue.tone)


class AlertsUnknown:
    """Nothing while Prometheus answers, or is not asked."""

    def __init__(self) -> None:
        with box("lf-unknown") as self._line:
            Text("Alerts unknown since ", tag="span")
            self._since = Time(None)
            Text(": Prometheus does not answer", tag="span")

    def show(self, since: datetime | None) -> None:
        self._line.set_visibility(since is not None)
        self._since.set(since)


class AlertsLine:
    """Of the whole fleet: alerts that are about no robot, or that none are known."""

    def __init__(self) -> None:
        self._told: tuple[Issue, ...] = ()
        self._others = box("lf-issues lf-fleet-alerts")
        self._unknown = AlertsUnknown()

    def show(self, firing: Firing) -> None:
        self._unknown.show(firing.unknown_since)
        issues = tuple(map(alerting, firing.others))
        if issues != self._told:
            self._told = issues
            chips(self._others, issues)
