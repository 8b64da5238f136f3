"""What goes over HTTP about jobs."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lefleet_server.fields import RowId

type State = Literal["queued", "running", "dead"]


class JobOut(BaseModel):
    """One piece of work that is not done."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    queue: str = Field(description="What kind of work.")
    episode_id: str
    version: int = Field(description="Of the work's rules.")
    state: State = Field(description="`dead`: given up after its last attempt, until somebody retries it.")
    attempts: int
    created_at: datetime
    run_after: datetime = Field(description="A queued job is not begun before.")
    worker: str | None
    reason: str | None = Field(description="Why the last attempt failed.")


class QueueOut(BaseModel):
    """How one kind of work is."""

    model_config = ConfigDict(from_attributes=True)

    queue: str
    waiting: int = Field(description="Queued or running.")
    running: int
    dead: int
    oldest_age_s: float = Field(description="Since the oldest that is not dead was queued.")


class JobList(BaseModel):
    queues: list[QueueOut]
    items: list[JobOut]
    next_cursor: int | None = Field(description="Give it back as `cursor` for the next page; null on the last.")


class Retry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ids: list[RowId] | None = Field(None, min_length=1, max_length=1000, description="Left out: all that are dead.")


class Retried(BaseModel):
    retried: int
