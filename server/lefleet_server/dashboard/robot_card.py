"""One robot on the fleet page: its last heartbeat and its cameras."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from nicegui import ui

from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.parts import STATE_TONES, Chip, Meter, Text, Time, box, icon, link, set_attribute
from lefleet_server.dashboard.stop import Stopper, StopRow
from lefleet_server.dashboard.units import DASH, number, repo_name, short_commit, size
from lefleet_server.dashboard.verdict import Judge, VerdictRow
from lefleet_server.robots.models import RobotVerdict
from lefleet_server.robots.service import RobotView
from lefleet_server.robots.stops import Stop

_LATE_MS = 10.0
"""A third of a tick at 30 Hz: later than this the arm is seen to jerk."""


@dataclass(frozen=True, slots=True)
class RobotState:
    """What the card shows; None where the robot did not say."""

    id: str
    state: str
    online: bool
    seen_at: datetime | None
    cameras: tuple[tuple[str, bool], ...]
    """Names, and whether a picture has come yet."""
    line: str
    """What it is at, or why it is not."""
    policy_type: str
    policy: str
    policy_full: str
    hz: float | None
    lateness_ms_p99: float | None
    waiting: int | None
    spool_bytes: float | None
    spool_budget_bytes: float | None
    disk_free_bytes: float | None
    disk_total_bytes: float | None
    stop: Stop
    episode_id: str | None
    """The episode that runs."""
    verdict: RobotVerdict | None


def read(view: RobotView) -> RobotState:
    """Takes what it knows out of a robot's last heartbeat."""
    said: dict[str, Any] = view.status.heartbeat if view.status else {}
    policy, loop, spool, disk = (said.get(name) or {} for name in ("policy", "loop", "spool", "disk"))
    commit = policy.get("commit") or policy.get("digest") or ""
    repo = policy.get("repo") or ""
    return RobotState(
        id=view.robot.id,
        state=view.state,
        online=view.online,
        seen_at=view.status.received_at if view.status else None,
        cameras=tuple((name, name in view.cameras) for name in said.get("cameras") or view.cameras),
        line="Its credential was revoked" if view.retired else said.get("detail") or said.get("task") or "No task",
        policy_type=policy.get("type") or "",
        policy=f"{repo_name(repo)}@{short_commit(commit)}" if repo else "No policy",
        policy_full=f"{repo}@{commit}" if repo else "This robot runs no policy",
        hz=loop.get("hz"),
        lateness_ms_p99=loop.get("lateness_ms_p99"),
        waiting=spool.get("episodes"),
        spool_bytes=spool.get("bytes"),
        spool_budget_bytes=spool.get("budget_bytes"),
        disk_free_bytes=disk.get("free_bytes"),
        disk_total_bytes=disk.get("total_bytes"),
        stop=view.stop,
        episode_id=view.episode_id,
        verdict=view.verdict,
    )


def part(used: float | None, whole: float | None) -> float | None:
    return None if used is None or not whole else used / whole


class RobotCard:
    """Built once; `show` sends only what changed."""

    def __init__(self, robot: RobotState, stopper: Stopper, judge: Judge) -> None:
        self._shown: RobotState | None = None
        with box("lf-card lf-robot", tag="article", data_robot=robot.id) as self._card:
            self._build_head(robot)
            self._pictures = box("lf-cameras")
            with box("lf-robot-body"):
                self._build_policy()
                self._build_facts()
                self._build_bars()
            self._verdict = VerdictRow(judge, robot.id)
            self._stop = StopRow(stopper, robot.id)
            self._build_foot(robot)
        self.show(robot)

    def show(self, robot: RobotState) -> None:
        if robot == self._shown:
            return
        set_attribute(self._card, "data-state", robot.state)
        self._chip.set(robot.state.replace("_", " ").capitalize(), STATE_TONES.get(robot.state, ""))
        self._line.show(robot.line)
        if self._shown is None or self._shown.cameras != robot.cameras:
            self._show_cameras(robot)
        self._show_policy(robot)
        self._show_facts(robot)
        self._show_bars(robot)
        self._verdict.show(robot.episode_id, robot.verdict)
        self._stop.show(robot.stop, robot.online)
        self._seen.set(robot.seen_at)
        self._shown = robot

    def _build_head(self, robot: RobotState) -> None:
        with box("lf-robot-head"):
            with box("lf-robot-title"):
                Text(robot.id, "lf-robot-name lf-cut", tag="h2")
                self._line = Text("", "lf-robot-task lf-cut")
            self._chip = Chip("", "")

    def _build_policy(self) -> None:
        with box("lf-policy") as self._policy_line:
            self._policy_type = Text("", "lf-policy-type")
            self._policy = Text("", "lf-mono lf-cut lf-muted")

    def _build_facts(self) -> None:
        with box("lf-facts"):
            self._hz = self._fact("Rate held", "Hz")
            self._lateness = self._fact("Lateness p99", "ms")
            self._waiting = self._fact("To upload", "")

    def _fact(self, name: str, unit: str) -> Text:
        with box():
            Text(name, "lf-fact-name")
            with box("lf-fact-value"):
                value = Text(DASH, tag="span")
                Text(f" {unit}", tag="small")
        return value

    def _build_bars(self) -> None:
        with box("lf-bars"):
            self._spool, self._spool_text = self._bar("Spool")
            self._disk, self._disk_text = self._bar("Disk")

    def _bar(self, name: str) -> tuple[Meter, Text]:
        with box():
            with box("lf-bar-head"):
                Text(name, tag="span")
                text = Text("", tag="span")
            return Meter(name), text

    def _build_foot(self, robot: RobotState) -> None:
        with box("lf-robot-foot"):
            with box():
                ui.label("Seen ").style("display: inline")
                self._seen = Time(robot.seen_at, "ago")
            with link(Filters(robot=robot.id).address("/episodes")):
                Text("Episodes", tag="span")
                icon("next")

    def _show_cameras(self, robot: RobotState) -> None:
        self._pictures.clear()
        with self._pictures:
            for name, has_picture in robot.cameras:
                camera = box(tag="lf-camera", name=name)
                if has_picture:
                    camera.props["src"] = f"/api/v1/robots/{quote(robot.id)}/cameras/{quote(name)}.jpg"

    def _show_policy(self, robot: RobotState) -> None:
        self._policy_type.show(robot.policy_type)
        self._policy_type.set_visibility(bool(robot.policy_type))
        self._policy.show(robot.policy)
        set_attribute(self._policy_line, "title", robot.policy_full)

    def _show_facts(self, robot: RobotState) -> None:
        online = robot.online
        late = robot.lateness_ms_p99 is not None and robot.lateness_ms_p99 > _LATE_MS
        self._hz.show(number(robot.hz if online else None))
        self._lateness.show(number(robot.lateness_ms_p99 if online else None))
        set_attribute(self._lateness, "data-tone", "warn" if late and online else "")
        self._waiting.show(DASH if robot.waiting is None else str(robot.waiting))

    def _show_bars(self, robot: RobotState) -> None:
        self._spool.set(part(robot.spool_bytes, robot.spool_budget_bytes))
        self._spool_text.show(f"{size(robot.spool_bytes)} of {size(robot.spool_budget_bytes)}")
        free, total = robot.disk_free_bytes, robot.disk_total_bytes
        self._disk.set(part(total - free if free is not None and total else None, total))
        self._disk_text.show(f"{size(free)} free")
