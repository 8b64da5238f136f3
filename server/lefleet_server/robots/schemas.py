"""What goes over HTTP about robots."""

import time
from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from lefleet_server.fields import (
    INT32_MAX,
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
from lefleet_server.robots.orders import Kind
from lefleet_server.robots.service import RobotView
from lefleet_server.robots.stops import NUMBER_MAX
from lefleet_server.robots.wish_schemas import EstopOut, RebootOut, RestOut, TaskOut, VerdictOut

MAX_METRICS_CHARS = 512 * 1024


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
    error: Text = Field("", description="Why the robot's spool cannot be used now; the numbers are older then.")


class DiskUse(BaseModel):
    free_bytes: Count
    total_bytes: Count


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


class Heartbeat(BaseModel):
    """What a robot says about itself. Fields this server does not know are ignored: robots may be newer."""

    state: Word
    detail: Text = ""
    policy: PolicyRef | None = None
    loop: LoopHealth | None = None
    spool: SpoolUse | None = None
    disk: DiskUse | None = None
    estop: EstopTold | None = None
    orders: OrdersTold | None = None
    episode_id: EpisodeId | None = None
    task: Text = ""
    agent_version: Line = ""
    cameras: list[CameraName] = Field(default=[], max_length=32)
    calibration_fingerprint: Line = ""
    joints: JointsTold | None = Field(None, description="As last recorded; null between episodes.")
    metrics: Annotated[str, StringConstraints(max_length=MAX_METRICS_CHARS)] = Field(
        "", description="The robot's metrics in Prometheus' text format."
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


class RobotOut(BaseModel):
    """A robot as people see it."""

    id: str
    site: str
    state: str = Field(
        description="What the robot said last, `offline` after three missed heartbeats, or `retired` once revoked."
    )
    online: bool
    hw: str
    agent_version: str
    enrolled_at: datetime
    last_seen_at: datetime | None
    heartbeat: Heartbeat | None = Field(description="The last heartbeat, without its metrics.")
    cameras: list[str] = Field(description="Cameras of which the server has a picture.")
    estop: EstopOut
    verdict: VerdictOut | None = Field(None, description="What somebody said about the episode that still runs.")
    rest: RestOut | None = Field(None, description="Null: nobody ever said.")
    task: TaskOut | None = Field(None, description="Null: nobody ever said.")
    reboot: RebootOut | None = Field(None, description="Null: nobody ever asked.")

    @classmethod
    def of(cls, view: RobotView) -> Self:
        robot, said = view.robot, view.heartbeat
        rest, task, reboot = (view.orders.get(kind) for kind in (Kind.REST, Kind.TASK, Kind.REBOOT))
        return cls(
            id=robot.id,
            site=robot.site,
            state=view.state,
            online=view.online,
            hw=robot.hw,
            agent_version=robot.agent_version,
            enrolled_at=robot.enrolled_at,
            last_seen_at=view.received_at,
            heartbeat=Heartbeat.model_validate(said) if said is not None else None,
            cameras=list(view.cameras),
            estop=EstopOut.of(view.stop),
            verdict=VerdictOut.of(view.verdict) if view.verdict else None,
            rest=RestOut.of(rest, said) if rest else None,
            task=TaskOut.of(task, said) if task else None,
            reboot=RebootOut.of(reboot, said, view.received_at, view.now) if reboot else None,
        )


class RobotList(BaseModel):
    items: list[RobotOut]


class ChangeOut(BaseModel):
    """Something that the robot's heartbeats said differently than before."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    what: str = Field(description="`state`, `policy` (repo@commit), `calibration` (fingerprint) or `agent` (version).")
    old: str | None = Field(description="null the first time.")
    new: str


class ChangeList(BaseModel):
    items: list[ChangeOut]


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
