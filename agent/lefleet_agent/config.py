"""Frozen settings of one robot's agent, read from one YAML file and checked at start."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import AnyHttpUrl, BaseModel, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lefleet_agent.config_robots import Frozen, LeRobotRobot, SimulatedRobot, So101Follower, So101Leader

ROBOT_ID = r"^[a-z0-9][a-z0-9-]{0,62}$"


class ConfigError(Exception):
    """The settings cannot be used; the message names each setting, its value and what would be right."""


def _kind(robot: Any) -> str:
    """Which robot is meant; the simulated one where nothing is said, so that the environment can set single values."""
    if isinstance(robot, dict):
        return str(robot.get("type", "so101_sim"))
    return str(getattr(robot, "type", "so101_sim"))


ROBOT_KINDS = ("so101_sim", "so101_follower", "lerobot")


class Policy(Frozen):
    """How the policy computes and how its action chunks are played."""

    mode: Literal["sync", "overlap", "rtc"] = Field(
        "overlap",
        description="overlap: the next chunk is computed while one plays; rtc: the policy also continues it (SmolVLA, "
        "pi0 and others that know real-time chunking); sync: the arm holds still meanwhile",
    )
    blend_s: float = Field(0.2, ge=0, le=5, description="Cross-fade from one action chunk to the next, seconds")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where it computes; auto: a GPU if there is one")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Precision of the network; below fp32 only within precision_limit"
    )
    compile: bool = Field(
        False,
        description="Compile the network when it is loaded, which takes minutes: faster chunks, CUDA graphs on a GPU; "
        "needs a C++ compiler, not for rtc",
    )
    precision_limit: float = Field(
        0.5,
        gt=0,
        description="Largest difference of an action to fp32 uncompiled, degrees (gripper: percent), tried at loading",
    )
    threads: int = Field(1, ge=1, le=64, description="Processor threads of the policy's process")
    load_limit_s: float = Field(600.0, gt=0, le=7200, description="Longest time to load a policy, seconds")
    first_action_limit_s: float = Field(
        30.0, gt=0, le=600, description="Longest wait for an episode's first actions, the arm at rest, seconds"
    )


class Judge(Frozen):
    """A LeRobot reward classifier that says when an episode has succeeded."""

    model: Path | None = Field(
        None,
        description="Folder of a LeRobot reward classifier (with its preprocessor, and its backbone in `backbone`), "
        "loaded beside the policy; empty: a person or the simulator says what became of an episode",
    )
    threshold: float = Field(0.9, gt=0, le=1, description="Probability from which on the task counts as done")
    hold_s: float = Field(0.5, ge=0, le=60, description="For so long it must be that probable, seconds")
    every_s: float = Field(0.2, gt=0, le=60, description="Time between two looks, seconds")
    crop: dict[str, tuple[int, int, int, int]] = Field(
        {},
        description="What it sees of a camera, as in training: top, left, height, width in pixels; empty: all of it",
    )


class Safety(Frozen):
    """What no policy may exceed, and what happens to the arm when something fails."""

    slew_per_s: float = Field(
        400.0, gt=0, description="Fastest change of a joint target, degrees (gripper: percent) a second"
    )
    joints_max_age_s: float = Field(
        0.2, gt=0, le=10, description="Joint positions older than this are not acted on: the arm holds still, seconds"
    )
    image_max_age_s: float = Field(
        1.0, gt=0, le=60, description="The same for pictures of the cameras that the policy looks at, seconds"
    )
    hold_limit_s: float = Field(
        2.0, gt=0, le=60, description="After holding still for so long the episode ends as interrupted, seconds"
    )
    park_pose: dict[str, float] = Field(
        {}, description="Joint targets that the arm is led to after a failure and before control ends; empty: it stays"
    )
    park_speed_per_s: float = Field(
        30.0, gt=0, le=180, description="Speed of that, degrees (gripper: percent) a second"
    )
    park_limit_s: float = Field(
        5.0, gt=0, le=60, description="Longest time for that, seconds; at most 4 before control ends"
    )


class Recording(Frozen):
    jpeg_quality: int = Field(90, ge=30, le=100, description="JPEG quality of recorded pictures")
    ring_slots: int = Field(32, ge=4, le=512, description="Frames that may wait for the recorder")
    before_event_s: float = Field(
        0.0,
        ge=0,
        le=60,
        description="Seconds before an event that can be saved while no episode runs; 0 keeps none",
    )
    spool_budget_bytes: int = Field(
        20 * 10**9, ge=10**6, description="Disk the spool may use, bytes; acknowledged episodes are freed first"
    )
    spool_when_full: Literal["stop", "free_by_value"] = Field(
        "stop",
        description="When episodes that the server lacks fill the budget: `stop` recording, or `free_by_value`",
    )


class Courier(Frozen):
    camera_s: float = Field(
        1.0, gt=0, le=60, description="Time between live pictures while somebody looks at them, seconds"
    )
    camera_unwatched_s: float = Field(
        60.0, gt=0, le=3600, description="Time between live pictures while nobody looks, seconds"
    )
    upload_chunk_bytes: int = Field(
        32 * 2**20,
        ge=2**16,
        le=2**28,
        description="Bytes of one upload request at most; what a link carries in 5 s where that is less",
    )
    upload_bytes_per_s: float | None = Field(
        None, ge=1000, description="Bytes a second that uploads may take of the network; empty: no limit"
    )
    quiet_while_running: bool = Field(
        False,
        description="While an episode runs only heartbeats and wishes for emergency stops use the network: "
        "no uploads, no live pictures",
    )
    timeout_s: float = Field(
        10.0, gt=0, le=300, description="Longest wait for an answer, seconds; twice that if it drips in"
    )
    retry_max_s: float = Field(
        30.0, gt=0, le=3600, description="Longest pause between retries, seconds, unless the server asks for more"
    )
    renew_credential_s: float | None = Field(
        30 * 86400.0,
        ge=1,
        description="Age at which this robot's credential is renewed, by the server's clock, seconds; empty: never",
    )
    metrics_host: str = Field("127.0.0.1", description="Address that serves /metrics")
    metrics_port: int = Field(9101, ge=0, le=65535, description="Port that serves /metrics; 0 chooses a free one")


class AgentSettings(BaseSettings):
    """All settings of one robot. The environment (`LEFLEET_AGENT_*`, `__` between levels) outranks the file."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="LEFLEET_AGENT_", env_nested_delimiter="__"
    )

    robot_id: str = Field(pattern=ROBOT_ID, description="Name of this robot in the fleet")
    server_url: AnyHttpUrl = Field(description="Where the server answers")
    server_ca_file: Path | None = Field(
        None, description="PEM file of the authority that the server's certificate comes from; empty: the system's"
    )
    state_dir: Path = Field(description="Folder for credential, journal, spool and releases (NVMe on a Jetson)")
    task: str = Field(
        "Pick up the cube and place it on the goal", min_length=1, description="What the policy is asked to do"
    )
    control_hz: float = Field(30.0, gt=0, le=200, description="Control ticks a second")
    episode_time_limit_s: float = Field(10.0, gt=0, le=3600, description="An episode ends as a failure after this")
    pause_s: float = Field(2.0, ge=0, le=3600, description="Rest between episodes, seconds")
    hung_after_s: float = Field(
        60.0, ge=5, le=3600, description="Silence after which control counts as hung, seconds; ten times that at start"
    )
    seed: int | None = Field(None, ge=0, description="First scene of the simulator, counted up; empty: from the clock")
    robot: Annotated[
        Annotated[SimulatedRobot, Tag("so101_sim")]
        | Annotated[So101Follower, Tag("so101_follower")]
        | Annotated[LeRobotRobot, Tag("lerobot")],
        Field(description="Which robot, and its cameras"),
        Discriminator(_kind),
    ] = SimulatedRobot()
    host_reboots: bool = Field(
        False,
        description="Whether the host reboots when `run/reboot` appears, as Ansible's role `agent` has it do",
    )
    drift_file: Path | None = Field(
        None,
        description="File in which `make drift` says from which roles this host differed, as Ansible's role `agent` "
        "mounts it; empty: the robot tells nothing of that",
    )
    leader: So101Leader | None = None
    reset: Literal["none", "pose", "leader"] = Field(
        "none",
        description="What brings a real arm to an episode's start: `none` (a person sets the scene in `pause_s`), "
        "`pose` (it is led to `reset_pose` slowly), `leader` (it follows the leader arm until `lefleet-agent begin`)",
    )
    reset_pose: dict[str, float] = Field(
        {}, description="Joint targets of `reset: pose`, reached at `safety.park_speed_per_s`"
    )
    policy: Policy = Policy()
    judge: Judge = Judge()
    safety: Safety = Safety()
    recording: Recording = Recording()
    courier: Courier = Courier()

    @model_validator(mode="after")
    def _can_reset(self) -> "AgentSettings":
        if self.reset == "pose" and not self.reset_pose:
            raise ValueError("reset = pose needs reset_pose: name a target of each joint")
        if self.reset == "leader" and self.leader is None:
            raise ValueError("reset = leader needs a leader arm: set leader.type and leader.port")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load(path: Path) -> AgentSettings:
    """Read the settings. Raises ConfigError, which lists every wrong setting."""
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; pass --config FILE or set LEFLEET_AGENT_CONFIG") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; write `name: value` lines")
    try:
        return AgentSettings(**values)
    except ValidationError as error:
        wrong = "\n".join(
            f"  {_name(e['loc'])} = {e['input']!r}: {e['msg']}" if e["loc"] else f"  {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"{path}: {error.error_count()} wrong setting(s):\n{wrong}") from error


def _name(place: tuple[int | str, ...]) -> str:
    """As the file has it: pydantic puts the kind of robot between."""
    inner = place[:1] + place[2:] if place[:1] == ("robot",) and place[1:2] and place[1] in ROBOT_KINDS else place
    return ".".join(str(part) for part in inner)


def describe(group: type[BaseModel] = AgentSettings, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(dotted name, default as YAML or `required`, meaning) of every setting.

    Of settings that only some kinds of robot have, the meaning says which.
    """
    for name, field in group.model_fields.items():
        groups = list(_groups(field.annotation))
        if len(groups) > 1:
            yield from _describe_kinds(groups, f"{prefix}{name}.")
        elif groups:
            many = "<name>." if get_origin(field.annotation) is dict else ""
            yield from describe(groups[0], f"{prefix}{name}.{many}")
        else:
            default = "required" if field.is_required() else json.dumps(field.default)
            yield prefix + name, default, field.description or ""


def _groups(annotation: Any) -> Iterator[type[BaseModel]]:
    """The groups of settings that an annotation names, through unions and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _groups(part)


def _describe_kinds(kinds: list[type[BaseModel]], prefix: str) -> Iterator[tuple[str, str, str]]:
    yield f"{prefix}type", json.dumps(ROBOT_KINDS[0]), f"Kind of robot: {', '.join(ROBOT_KINDS)}"
    owners: dict[tuple[str, str, str], list[str]] = {}
    for kind, word in zip(kinds, ROBOT_KINDS, strict=True):
        for row in describe(kind, prefix):
            if row[0] != f"{prefix}type":
                owners.setdefault(row, []).append(word)
    for (name, default, meaning), of in owners.items():
        yield name, default, f"{', '.join(of)}: {meaning}"
