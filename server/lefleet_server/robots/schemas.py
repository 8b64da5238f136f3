"""What goes over HTTP about robots."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from lefleet_server.alerts import Alert
from lefleet_server.fields import (
    INT32_MAX,
    PLAUSIBLE,
    CameraName,
    Count,
    EpisodeId,
    Line,
    Number,
    RobotId,
    Text,
    Word,
    storable,
)
from lefleet_server.robots import MOST_CAMERAS
from lefleet_server.robots.orders import Kind
from lefleet_server.robots.service import RobotPage, RobotView
from lefleet_server.robots.state import RobotState, Tone
from lefleet_server.robots.stops import NUMBER_MAX
from lefleet_server.robots.wish_schemas import EstopOut, RebootOut, RestOut, TaskOut, VerdictOut

MAX_METRICS_CHARS = 512 * 1024
MAX_METRICS_LINE_CHARS = 4096
"""The parser's work grows with the square of a line's length."""
_MOST_TROUBLES, _WORDS = 16, 300


class EnrolRequest(BaseModel):
    code: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(repr=False)
    robot_id: RobotId
    agent_version: Line
    hw: Line = ""


class Enrolled(BaseModel):
    robot_id: str
    token: str = Field(description="The robot's credential. Shown this once; the server keeps only its hash.")


class Credential(BaseModel):
    """Takes over when it is used first; until then the one before stays valid."""

    token: str = Field(description="The robot's new credential. Shown this once; the server keeps only its hash.")


class CredentialState(BaseModel):
    """How it stands with a robot's credential; nothing of it lets anybody in."""

    model_config = ConfigDict(from_attributes=True)

    since: datetime | None = Field(description="When it came into use; null: the robot has none.")
    used_at: datetime | None = Field(description="Of the last heartbeat with it; null: it brought none yet.")
    renewed_at: datetime | None = Field(description="When the robot was given the next one, not used yet; null: none.")
    code_until: datetime | None = Field(description="Until when a one-time code brings another one; null: none does.")


class EnrolmentCode(BaseModel):
    robot_id: str
    code: str = Field(description="For `lefleet-agent enrol`, once. Shown this once; the server keeps only its hash.")
    ttl_s: int


class Revoked(BaseModel):
    robot_id: str
    changed: bool = Field(description="False when it had no credential.")


class PolicyRef(BaseModel):
    repo: Line
    commit: Line
    digest: Line
    type: Line


class LoopHealth(BaseModel):
    """The control loop over the last ten seconds."""

    hz: Number
    lateness_ms_p50: Number
    lateness_ms_p99: Number
    lateness_ms_max: Number
    ticks: Count
    late: Count


class SpoolUse(BaseModel):
    episodes: Count = Field(description="Episodes waiting for their receipt.")
    bytes: Count
    budget_bytes: Count
    lost_episodes: Count = Field(0, description="Episodes deleted on the robot before the server had them.")
    refused_episodes: Count = Field(0, description="Episodes that the server refused and the robot keeps.")
    error: Text = Field("", description="Why the robot's spool cannot be used now; the numbers are older then.")


class DiskUse(BaseModel):
    free_bytes: Count
    total_bytes: Count


class TemperatureTold(BaseModel):
    """The hottest thermal zone of the robot's computer."""

    zone: Line
    celsius: Number


class VersionsTold(BaseModel):
    """Of the software beside the agent; empty what the robot's computer does not have."""

    lerobot: Line = ""
    torch: Line = ""
    jetson_linux: Line = Field("", description="Of NVIDIA's system, which is JetPack's lower half: `36.4.3`.")
    kernel: Line = ""


class DriftTold(BaseModel):
    """Where the robot's host differed from its Ansible roles when somebody last compared (`make drift`)."""

    roles: list[Line] = Field(max_length=64, description="Those that it differs from; empty: it is as they say.")
    checked_unix_s: Annotated[int, Field(ge=0, le=253_402_300_799)] = Field(description="When it was compared.")


class EstopTold(BaseModel):
    """What a robot says about the emergency stop that people asked for through the server."""

    wish: Annotated[int, Field(ge=0, lt=NUMBER_MAX)] = Field(description="Number of the newest wish that it obeyed.")
    holds: bool = Field(description="Whether that stop still holds; no longer once it was cleared at the robot.")


class OrdersTold(BaseModel):
    """Numbers of the newest words about its rest, its task and its host that a robot obeyed."""

    rest: Annotated[int, Field(ge=0, lt=NUMBER_MAX)] = 0
    task: Annotated[int, Field(ge=0, lt=NUMBER_MAX)] = 0
    reboot: Annotated[int, Field(ge=0, lt=NUMBER_MAX)] | None = Field(
        None, description="Null: nothing on its host reboots it when it is asked."
    )
    rests: bool = Field(False, description="Whether people's wish that it rests still holds at the robot.")


def _shortened(trouble: dict[str, str]) -> dict[str, str]:
    """What a robot says of its trouble must not make it one that is not heard."""
    some = list(trouble.items())[:_MOST_TROUBLES]
    return {what.replace("\x00", "")[:_WORDS]: why.replace("\x00", "")[:_WORDS] for what, why in some}


class CourierTold(BaseModel):
    """How the part of the agent that speaks to the server does."""

    clock_offset_s: Number | None = Field(None, description="How far the server's clock is ahead of the robot's.")
    trouble: Annotated[dict[str, str], AfterValidator(_shortened)] | None = Field(
        None, description="What fails now and is tried again, and why; the first 16, 300 characters of each."
    )


class JointsTold(BaseModel):
    """Where the arm's joints are: one name, unit and value for each."""

    names: list[Line] = Field(max_length=64)
    units: list[Line] = Field(max_length=64)
    values: list[Number] = Field(max_length=64)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if not len(self.names) == len(self.units) == len(self.values):
            raise ValueError("names, units and values must be of one length")
        return self


def _if_plausible[T: BaseModel](part: T | None) -> T | None:
    for value in vars(part).values() if part is not None else ():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, float) and abs(number) > PLAUSIBLE for number in numbers):
            return None
    return part


_IfPlausible = AfterValidator(_if_plausible)
"""Not refused, so that a sensor's fault does not make the robot an offline one."""


class Heartbeat(BaseModel):
    """What a robot says about itself. Fields this server does not know are ignored: robots may be newer.

    `loop`, `temperature`, `joints` and `courier` count as not told when one of their numbers is beyond 2^63,
    either way.
    """

    state: Word
    detail: Text = ""
    policy: PolicyRef | None = None
    loop: Annotated[LoopHealth | None, _IfPlausible] = None
    spool: SpoolUse | None = None
    disk: DiskUse | None = None
    temperature: Annotated[TemperatureTold | None, _IfPlausible] = Field(
        None, description="Null: the robot's computer shows none."
    )
    drift: DriftTold | None = Field(None, description="Null: never compared, as far as the robot knows.")
    estop: EstopTold | None = None
    orders: OrdersTold | None = None
    courier: Annotated[CourierTold | None, _IfPlausible] = None
    episode_id: EpisodeId | None = None
    task: Text = ""
    agent_version: Line = ""
    versions: VersionsTold | None = None
    cameras: list[CameraName] = Field(default=[], max_length=MOST_CAMERAS)
    calibration_fingerprint: Line = ""
    joints: Annotated[JointsTold | None, _IfPlausible] = Field(
        None, description="As last read; null while nobody reads the arm."
    )
    metrics: Annotated[str, StringConstraints(max_length=MAX_METRICS_CHARS), AfterValidator(storable)] = Field(
        "",
        description="The robot's metrics in Prometheus' text format. Lines that are none, or longer than "
        f"{MAX_METRICS_LINE_CHARS} characters, are kept from Prometheus.",
    )
    uptime_s: Annotated[float, Field(ge=0, le=1e10)] | None = Field(
        None, description="Seconds since the robot's host started."
    )
    wall_ns: Count = 0


class HeartbeatAnswer(BaseModel):
    server_wall_ns: int
    interval_s: float = Field(
        description="Send the next heartbeat after this long; shorter while somebody looks at the robot's page."
    )
    watched: bool = Field(
        description="Whether somebody looks at the robot: only then do its live pictures have to come often."
    )
    instance: str = Field(
        description="Another one after each start of the server, and for each of its processes: it may have been "
        "restored from a backup, so ask `POST /robot/receipts/missing` again."
    )

    @classmethod
    def now(cls, interval_s: float, watched: bool, instance: str) -> Self:
        return cls(server_wall_ns=time.time_ns(), interval_s=interval_s, watched=watched, instance=instance)


class AlertOut(BaseModel):
    """An alert of Prometheus that fires and names the robot (label `robot_id`)."""

    name: str
    severity: str = Field(description="As its rule labels it: `critical`, `warning`; empty where it does not.")
    summary: str
    since: datetime

    @classmethod
    def of(cls, alert: Alert) -> Self:
        return cls(name=alert.name, severity=alert.severity, summary=alert.summary, since=alert.since)


class IssueOut(BaseModel):
    """Something that a person should see to."""

    model_config = ConfigDict(from_attributes=True)

    tone: Tone = Field(description="`bad` or `warn`.")
    text: str


class MotorOut(BaseModel):
    """What a servo told last; null what it did not."""

    model_config = ConfigDict(from_attributes=True)

    temperature_celsius: float | None
    voltage_volts: float | None
    current_amperes: float | None
    load_ratio: float | None = Field(description="-1 to 1 of its full torque.")
    errors_total: float | None = Field(
        description="Answers that were lost, broken or an alarm since the robot's control started."
    )


class ArmOut(BaseModel):
    """From the metrics of the last heartbeat."""

    model_config = ConfigDict(from_attributes=True)

    motors: dict[str, MotorOut] = Field(description="By joint; empty for a simulated arm.")
    reads: int | None = Field(description="Of all joints since control started; null for an arm without a bus.")
    reads_failed: int | None = Field(description="Of these; each was tried again.")


class RobotOut(BaseModel):
    """A robot as people see it."""

    id: str
    site: str
    state: str = Field(
        description="What the robot said last, `offline` after three missed heartbeats, or `retired` once revoked."
    )
    online: bool
    health: Tone = Field(description="As the fleet page shows it: `good`, `warn`, `bad`, or `off` once revoked.")
    issues: list[IssueOut] = Field(description="What makes it `bad` or `warn`, the worst first.")
    line: str = Field(description="What it is at, or why it is not.")
    hw: str
    agent_version: str
    enrolled_at: datetime
    last_seen_at: datetime | None
    heartbeat: Heartbeat | None = Field(description="The last heartbeat, without its metrics.")
    cameras: list[str] = Field(description="Cameras of which the server has a picture.")
    arm: ArmOut
    estop: EstopOut
    verdict: VerdictOut | None = Field(None, description="What somebody said about the episode that still runs.")
    rest: RestOut | None = Field(None, description="Null: nobody ever said.")
    task: TaskOut | None = Field(None, description="Null: nobody ever said.")
    reboot: RebootOut | None = Field(None, description="Null: nobody ever asked.")
    alerts: list[AlertOut] | None = Field(
        None, description="Those that fire. Null: no Prometheus is named in the server's settings, or it is not heard."
    )
    alerts_unknown_since: datetime | None = Field(None, description="Since when Prometheus is not heard.")

    @classmethod
    def of(cls, view: RobotView, judged: RobotState) -> Self:
        robot, said = view.robot, view.heartbeat
        rest, task, reboot = (view.orders.get(kind) for kind in (Kind.REST, Kind.TASK, Kind.REBOOT))
        return cls(
            id=robot.id,
            site=robot.site,
            state=view.state,
            online=view.online,
            health=judged.health,
            issues=[IssueOut.model_validate(issue) for issue in judged.issues],
            line=judged.line,
            hw=robot.hw,
            agent_version=robot.agent_version,
            enrolled_at=robot.enrolled_at,
            last_seen_at=view.received_at,
            heartbeat=Heartbeat.model_validate(said) if said is not None else None,
            cameras=list(view.cameras),
            arm=ArmOut.model_validate(judged.arm),
            estop=EstopOut.of(view.stop),
            verdict=VerdictOut.of(view.verdict) if view.verdict else None,
            rest=RestOut.of(rest, said) if rest else None,
            task=TaskOut.of(task, said) if task else None,
            reboot=RebootOut.of(reboot, said, view.received_at, view.now) if reboot else None,
            alerts=None if judged.alerts is None else [AlertOut.of(each) for each in judged.alerts],
            alerts_unknown_since=judged.alerts_unknown_since,
        )


class RobotList(BaseModel):
    items: list[RobotOut] = Field(description="By name.")
    next_cursor: str | None = Field(
        None, description="Give it back as `cursor` for the next page; null on the last, and where no limit was given."
    )

    @classmethod
    def of(cls, page: RobotPage, states: Sequence[RobotState]) -> Self:
        """`states` has them all, and perhaps one that came since."""
        judged = {state.id: state for state in states}
        items = [RobotOut.of(view, judged[view.robot.id]) for view in page.items]
        return cls(items=items, next_cursor=page.next_cursor)


class ChangeOut(BaseModel):
    """Something that the robot's heartbeats said differently than before."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    what: str = Field(description="`state`, `policy` (repo@commit), `calibration` (fingerprint) or `agent` (version).")
    old: str | None = Field(description="null the first time.")
    new: str


class ChangeList(BaseModel):
    items: list[ChangeOut]


class EventOut(BaseModel):
    """Something that a person did to the robot, or that it said differently than before, in words."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    what: str
    detail: str
    by: str = Field(description="Who did it; empty for what the robot said.")


class EventList(BaseModel):
    items: list[EventOut]


class NotesIn(BaseModel):
    text: Annotated[str, StringConstraints(max_length=20_000), AfterValidator(storable)] = Field(
        description="Markdown; it replaces what was there."
    )
    version: Annotated[int, Field(ge=0, le=INT32_MAX)] = Field(description="Of the text that was read; 0 for none.")


class NotesOut(BaseModel):
    """What people wrote about a robot."""

    model_config = ConfigDict(from_attributes=True)

    text: str = Field(description="Markdown.")
    version: int = Field(description="Name it when you write; 0 while nobody ever wrote.")
    written_by: str | None
    written_at: datetime | None
