"""Asks the reader, in a process of its own, what an uploaded file holds, and trusts none of the answer unchecked."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lefleet_server.episodes import bounded
from lefleet_server.fields import CameraName, Count, EpisodeId, Line, Number, RobotId, Text
from lefleet_server.problems import Invalid, Unavailable

READER = "lefleet_server.episodes.reader"
"""The program that is asked; see its `main`."""
_FACTS_BYTES = 4 << 20
"""Of the answer about a file: the server's own process unpacks it. Signals are passed on as they come."""
_PATIENCE = 4
"""How much longer than its processor's time a reading may take: more, and the machine is too busy to judge the file."""
_AGAIN_S = 30

log = structlog.get_logger()

_WallNs = Count
"""From 1970 on: a Jetson without a clock battery starts there, and its episodes count too."""


class Attributes(BaseModel):
    """The attributes that become columns; `model_extra` holds the others."""

    model_config = ConfigDict(extra="allow", strict=True)

    episode_id: EpisodeId
    robot_id: RobotId
    cameras: list[CameraName] = Field(max_length=32)
    task: Text = ""
    policy_repo: Line = ""
    policy_commit: Line = ""
    policy_digest: Line = ""
    outcome: Literal["success", "failure", "unknown"]
    interrupted: bool
    end_reason: Text = ""
    frames: Annotated[int, Field(ge=1, le=2**31 - 1)]
    frames_dropped: Count
    fps: Annotated[Number, Field(gt=0)]
    control_hz_held: Annotated[Number, Field(ge=0)]
    started_wall_ns: _WallNs
    ended_wall_ns: _WallNs

    @property
    def started_at(self) -> datetime:
        return datetime.fromtimestamp(self.started_wall_ns / 1e9, UTC)

    @property
    def ended_at(self) -> datetime:
        return datetime.fromtimestamp(self.ended_wall_ns / 1e9, UTC)


class Place(BaseModel):
    """Byte positions of one camera's pictures in the file."""

    offset: Count
    stride: Count
    bytes_offset: Count


class Facts(BaseModel):
    attributes: Attributes
    image_index: dict[str, Place]
    duration_s: Annotated[Number, Field(ge=0)]


class Reader(Protocol):
    """Asks READER about a file, in a process that may crash, hang or want too much."""

    async def ask(self, *arguments: str | Path, timeout_s: float, most_bytes: int = ...) -> bytes:
        """What it prints. Raises FileFaultError or EndedEarlyError."""


async def examine(reader: Reader, path: Path, cpu_s: float) -> Facts:
    """What the file holds. Raises Invalid, naming the dataset or attribute, unless it is a whole episode file.

    Unavailable when this machine cannot read it now, which says nothing about the file.
    """
    answer = json.loads(await _asked(reader, path, cpu_s=cpu_s, most_bytes=_FACTS_BYTES))
    if "error" in answer:
        raise refused(answer["error"]["field"], answer["error"]["message"])
    try:
        return Facts.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        raise refused(".".join(str(part) for part in first["loc"][1:]), first["msg"]) from error


def refused(field: str, message: str) -> Invalid:
    return Invalid(f"not a valid episode file: {field}: {message}", fields=[(field, message)], kind="invalid-episode")


async def _asked(reader: Reader, *arguments: str | Path, cpu_s: float, most_bytes: int) -> bytes:
    """Raises Invalid or Unavailable."""
    limits: dict[str, Any] = {"timeout_s": _PATIENCE * cpu_s, "most_bytes": most_bytes}
    try:
        found = await reader.ask(f"--cpu-s={math.ceil(cpu_s)}", *arguments, **limits)
    except bounded.LateError as error:
        raise _later(f"it {error}: the server is busy, or its disk slow") from error
    except bounded.FileFaultError as error:
        raise refused("file", str(error)) from error
    except bounded.EndedEarlyError as error:
        raise _later(str(error)) from error
    if found.startswith(b'{"failed"'):
        raise _later(f"it {json.loads(found)['failed']}")
    return found


def _later(why: str) -> Unavailable:
    log.error("an episode file could not be looked at", reason=why)
    return Unavailable(f"the file could not be looked at: {why}; try again", headers={"Retry-After": str(_AGAIN_S)})


async def signals(reader: Reader, path: Path, cpu_s: float) -> bytes:
    """The stored file's numbers by column as JSON (schemas.Signals). Raises Invalid or Unavailable."""
    found = await _asked(reader, "--signals", path, cpu_s=cpu_s, most_bytes=bounded.MOST_OUTPUT_BYTES)
    if found.startswith(b'{"error"'):
        raise refused("file", json.loads(found)["error"]["message"])
    return found
