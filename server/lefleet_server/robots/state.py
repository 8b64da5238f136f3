"""A robot at a glance: what its last heartbeat and its metrics say, and what of that a person should see to. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from lefleet_server.alerts import Alert
from lefleet_server.robots.models import RobotVerdict
from lefleet_server.robots.motors import Arm
from lefleet_server.robots.stops import Stop, StopState
from lefleet_server.robots.wish_schemas import RebootOut, RestOut, TaskOut
from lefleet_server.units import counted, lasting, number, repo_name, short_commit

type Tone = Literal["good", "warn", "bad", "off"]
type Level = Literal["", "warn", "bad"]

LATE_MS = 10.0
"""A third of a tick at 30 Hz: later than this the arm is seen to jerk."""
NEARLY_FULL, FULL = 0.8, 0.95
_MINUTE_S = 60.0
_NEVER = datetime.min.replace(tzinfo=UTC)
WARM_C, HOT_C = 55.0, 65.0
"""An STS3215 switches its torque off at 70 degrees, unless its register 13 says otherwise."""
HOST_WARM_C, HOST_HOT_C = 85.0, 97.0
"""An Orin slows itself down at 99 degrees; `lefleet-agent doctor` judges by the same."""
CLOCK_S = 5.0
"""As `lefleet-agent doctor`: dates in its episodes are off by that much, and nothing else."""

_BAD_STATES = {
    "estopped": "Emergency stop",
    "fault": "Fault",
    "error": "Error",
    "spool_full": "Spool full",
    "control_down": "Control is down",
}


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that a person should see to."""

    tone: Tone
    """`bad` or `warn`."""
    text: str


@dataclass(frozen=True, slots=True)
class RobotState:
    """None where the robot did not say."""

    id: str
    site: str
    state: str
    online: bool
    seen_at: datetime | None
    cameras: tuple[tuple[str, bool], ...]
    """Names, and whether a picture has come yet."""
    stop: Stop
    said: Mapping[str, Any] = field(default_factory=dict)
    """The last heartbeat."""
    arm: Arm = field(default_factory=Arm)
    word: RobotVerdict | None = None
    """What people said last about an episode of it."""
    rest: RestOut | None = None
    """What people ordered last about its rest, from afar; None when nobody ever did."""
    task_order: TaskOut | None = None
    reboot: RebootOut | None = None
    hw: str = ""
    """What it runs on, as it said when it enrolled."""
    now: datetime = _NEVER
    """When this was read, by the database's clock."""
    alerts: Sequence[Alert] | None = None
    """Of Prometheus, those that fire; None where nobody asks, or it is not heard."""
    alerts_unknown_since: datetime | None = None

    @property
    def retired(self) -> bool:
        return self.state == "retired"

    @property
    def line(self) -> str:
        """What it is at, or why it is not."""
        if self.retired:
            return "Its credential was revoked"
        return self.said.get("detail") or self.said.get("task") or "No task"

    @property
    def episode_id(self) -> str | None:
        """The episode that runs, while the robot is heard."""
        return self.said.get("episode_id") if self.online else None

    @property
    def verdict(self) -> RobotVerdict | None:
        """What somebody said about the episode that still runs."""
        return self.word if self.word and self.word.episode_id == self.episode_id else None

    @property
    def repo(self) -> str:
        return self._part("policy").get("repo") or ""

    @property
    def commit(self) -> str:
        policy = self._part("policy")
        return policy.get("commit") or policy.get("digest") or ""

    @property
    def policy_type(self) -> str:
        return self._part("policy").get("type") or ""

    @property
    def policy(self) -> str:
        return f"{repo_name(self.repo)}@{short_commit(self.commit)}" if self.repo else "No policy"

    @property
    def hz(self) -> float | None:
        return self._part("loop").get("hz") if self.online else None

    @property
    def lateness_ms(self) -> float | None:
        """The 99th percentile over ten seconds."""
        return self._part("loop").get("lateness_ms_p99") if self.online else None

    @property
    def waiting(self) -> int | None:
        return self._part("spool").get("episodes")

    @property
    def spool_used(self) -> float | None:
        """0 to 1 of its budget."""
        spool = self._part("spool")
        return part(spool.get("bytes"), spool.get("budget_bytes"))

    @property
    def disk_used(self) -> float | None:
        """0 to 1."""
        disk = self._part("disk")
        free = part(disk.get("free_bytes"), disk.get("total_bytes"))
        return None if free is None else 1 - free

    @property
    def disk_free_bytes(self) -> int | None:
        return self._part("disk").get("free_bytes")

    @property
    def host_celsius(self) -> float | None:
        """Of the hottest zone of its computer."""
        return self._part("temperature").get("celsius") if self.online else None

    @property
    def host_zone(self) -> str:
        return self._part("temperature").get("zone") or ""

    @property
    def host_tone(self) -> Level:
        return level(self.host_celsius, HOST_WARM_C, HOST_HOT_C)

    @property
    def libraries(self) -> str:
        """`LeRobot 0.6.1 · torch 2.7.1`; empty when it does not tell."""
        return self._versions(lerobot="LeRobot", torch="torch")

    @property
    def system(self) -> str:
        """`Jetson Linux 36.4.3 · Linux 5.15.148-tegra`; empty when it does not tell."""
        return self._versions(jetson_linux="Jetson Linux", kernel="Linux")

    def _versions(self, **titles: str) -> str:
        told = self._part("versions")
        return " · ".join(f"{title} {told[name]}" for name, title in titles.items() if told.get(name))

    @property
    def drift(self) -> Sequence[str] | None:
        """The roles that its host differed from; None when it was never compared."""
        return self._part("drift").get("roles")

    @property
    def compared(self) -> str:
        """How long ago that was: `compared 3 hours ago`."""
        seconds = self.now.timestamp() - self._part("drift").get("checked_unix_s", 0)
        return f"compared {lasting(seconds)} ago" if seconds >= _MINUTE_S else "compared just now"

    @property
    def issues(self) -> tuple[Issue, ...]:
        """The worst first; none of a retired robot. That it is offline stands before its alerts."""
        if self.retired:
            return ()
        if not self.online:
            # What it said last is old; alerts are Prometheus' and of now.
            offline = Issue("bad", "Offline" if self.seen_at else "Never heard of")
            return (offline, *_worst_first(self._alert_issues()))
        own = [*self._state_issues(), *self._load_issues(), *self._host_issues(), *self._courier_issues()]
        return _worst_first([*own, *self._alert_issues()])

    @property
    def health(self) -> Tone:
        if self.retired:
            return "off"
        issues = self.issues
        return issues[0].tone if issues else "good"

    def _part(self, name: str) -> Mapping[str, Any]:
        return self.said.get(name) or {}

    def _state_issues(self) -> list[Issue]:
        found = []
        if self.state in _BAD_STATES:
            found.append(Issue("bad", _BAD_STATES[self.state]))
        elif self.stop.state in (StopState.STOPPING, StopState.STOPPED):
            found.append(Issue("bad", "Emergency stop"))
        if self.state == "drained":
            why = self.rest.reason if self.rest and self.rest.wanted else ""
            found.append(Issue("warn", f"Resting: {why}" if why else "Resting"))
        spool = self._part("spool")
        if spool.get("error"):
            found.append(Issue("bad", f"Spool: {spool['error']}"[:200]))
        if spool.get("lost_episodes"):
            found.append(Issue("warn", f"{spool['lost_episodes']} episodes lost"))
        if refused := spool.get("refused_episodes"):
            found.append(Issue("warn", f"{counted(refused)} refused: lefleet-agent doctor names them"))
        return found

    def _load_issues(self) -> list[Issue]:
        found = []
        if self.lateness_ms is not None and self.lateness_ms > LATE_MS:
            found.append(Issue("warn", f"Late by {number(self.lateness_ms)} ms"))
        for name, used in (("Spool", self.spool_used), ("Disk", self.disk_used)):
            if used is not None and used >= NEARLY_FULL:
                found.append(Issue("bad" if used >= FULL else "warn", f"{name} {100 * used:.0f} % full"))
        if (hottest := self.arm.hottest) and hottest[1] >= WARM_C:
            joint, celsius = hottest
            found.append(Issue("bad" if celsius >= HOT_C else "warn", f"{joint} at {celsius:.0f} °C"))
        return found

    def _host_issues(self) -> list[Issue]:
        found = []
        if (tone := self.host_tone) and self.host_celsius is not None:
            found.append(Issue(tone, f"Host at {self.host_celsius:.0f} °C ({self.host_zone})"))
        if self.drift:
            found.append(Issue("warn", f"Differs from its roles: {', '.join(self.drift)} ({self.compared})"))
        return found

    def _courier_issues(self) -> list[Issue]:
        courier = self._part("courier")
        trouble = courier.get("trouble") or {}
        # Its spool says so itself.
        found = [Issue("warn", f"{what.capitalize()}: {why}") for what, why in trouble.items() if what != "spool"]
        offset_s = courier.get("clock_offset_s") or 0.0
        if abs(offset_s) > CLOCK_S:
            where = "behind" if offset_s > 0 else "ahead of"
            found.append(Issue("warn", f"Clock {lasting(abs(offset_s))} {where} the server's"))
        return found

    def _alert_issues(self) -> list[Issue]:
        return list(map(alerting, self.alerts or ()))


def _worst_first(issues: Iterable[Issue]) -> tuple[Issue, ...]:
    return tuple(sorted(issues, key=lambda issue: issue.tone != "bad"))


def alerting(alert: Alert) -> Issue:
    words = f"Alert {alert.name}: {alert.summary}" if alert.summary else f"Alert {alert.name}"
    return Issue("bad" if alert.severity == "critical" else "warn", words)


def level(value: float | None, warn: float, bad: float) -> Level:
    """Of what is the worse the more there is."""
    if value is None:
        return ""
    return "bad" if value >= bad else "warn" if value >= warn else ""


def part(used: float | None, whole: float | None) -> float | None:
    return None if used is None or not whole else used / whole
