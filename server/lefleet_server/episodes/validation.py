"""Asks the reader, in a process of its own, what an uploaded file holds, and trusts none of the answer unchecked."""

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lefleet_server.fields import CameraName, Count, EpisodeId, Line, Number, RobotId, Text
from lefleet_server.problems import Invalid, Unavailable

_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGXCPU}
"""Ends that the file caused. Any other (a shutdown, no memory left on the host) says nothing about the file."""

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


async def examine(path: Path, timeout_s: float) -> Facts:
    """What the file holds. Raises Invalid, naming the dataset or attribute, unless it is a whole episode file."""
    answer = await _read(path, timeout_s)
    if "error" in answer:
        raise refused(answer["error"]["field"], answer["error"]["message"])
    try:
        return Facts.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        raise refused(".".join(str(part) for part in first["loc"][1:]), first["msg"]) from error


def refused(field: str, message: str) -> Invalid:
    return Invalid(f"not a valid episode file: {field}: {message}", fields=[(field, message)], kind="invalid-episode")


async def _read(path: Path, timeout_s: float) -> dict[str, Any]:
    # It gives way to everything else: starting Python is most of its work, and on one machine robots may run beside it.
    command = ("nice", "-n", "10", sys.executable, "-I", "-m", "lefleet_server.episodes.reader", str(path))
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # The server's own environment may hold the database's password; this process reads files of strangers.
        env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ},
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError as error:
        raise refused("file", f"could not be read within {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if -(process.returncode or 0) in _CRASHES:
        raise refused("file", f"makes the HDF5 library fail ({signal.Signals(-(process.returncode or 0)).name})")
    if process.returncode:
        raise Unavailable(f"the check of the file ended early ({process.returncode}); send the last bytes again")
    answer: dict[str, Any] = json.loads(output)
    return answer
