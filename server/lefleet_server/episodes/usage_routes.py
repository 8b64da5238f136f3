"""What the store holds, for people."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from lefleet_server.auth import CurrentUser, ServicesDep
from lefleet_server.episodes import usage

router = APIRouter(tags=["storage"])


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class PlaceOut(_Out):
    """Where the files are."""

    kind: str = Field(description="`file`, `s3`, `gs` or `az`.")
    state: str = Field(description="`ok`, or what is wrong with it now.")
    free_bytes: int | None = Field(description="Null for an object store, which does not say.")
    total_bytes: int | None


class RobotUsageOut(_Out):
    robot_id: str
    episodes: int
    bytes: int
    lost: int = Field(description="Episodes whose file is not in the store.")
    newest_at: datetime = Field(description="When the last one arrived, also if it was deleted since.")


class OpenUploadOut(_Out):
    robot_id: str
    episode_id: str
    bytes: int
    arrived_bytes: int
    began_at: datetime


class CheckOut(_Out):
    """The last `lefleet-server fsck`."""

    at: datetime
    found: int
    remaining: int
    repair: bool
    deep: bool


class UsageOut(_Out):
    place: PlaceOut
    episodes: int
    bytes: int
    lost: int
    quarantined: int
    robots: list[RobotUsageOut] = Field(description="Largest first.")
    uploads: list[OpenUploadOut] = Field(description="On their way in: the oldest hundred.")
    uploads_open: int
    last_check: CheckOut | None


@router.get("/storage")
async def get_storage(user: CurrentUser, services: ServicesDep) -> UsageOut:
    """What the store holds, for whom, what is on its way in and what is wrong."""
    return UsageOut.model_validate(await usage.usage(services))
