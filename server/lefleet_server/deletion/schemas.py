"""What goes over HTTP about holds and deletion."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from lefleet_server.fields import Reason


class HoldRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Reason = Field(description="Kept in the audit log.")


class HoldOut(BaseModel):
    """Nothing deletes this episode, or any of this robot's."""

    model_config = ConfigDict(from_attributes=True)

    episode_id: str | None
    robot_id: str | None
    reason: str
    placed_by: str = Field(description="`user:NAME`.")
    placed_at: datetime


class HoldList(BaseModel):
    items: list[HoldOut]
    next_cursor: int | None = Field(description="Give it back as `cursor` for the next page; null on the last.")


class DeletedOut(BaseModel):
    """What is kept of a deleted episode, for good."""

    model_config = ConfigDict(from_attributes=True)

    episode_id: str
    sha256: str
    robot_id: str
    bytes: int
    deleted_at: datetime
    deleted_by: str
    reason: str
