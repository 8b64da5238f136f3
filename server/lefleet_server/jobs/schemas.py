"""What goes over HTTP about jobs."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lefleet_server.fields import RowId

type State = Literal["queued", "running", "dead"]
MAX_RETRIED = 1000


class JobOut(BaseModel):
    """Work on an episode that is not done; done work leaves no row."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    queue: str = Field(description="What kind of work.")
    episode_id: str
    version: int = Field(description="Of the work's rules.")
    state: State = Field(description="`dead`: given up, until somebody retries it.")
    attempts: int
    created_at: datetime
    run_after: datetime = Field(description="When the next attempt may begin.")
    worker: str | None = Field(description="Who has it, or had it last.")
    reason: str | None = Field(description="Why the last attempt failed.")


class JobPage(BaseModel):
    items: list[JobOut]
    next_cursor: int | None = Field(description="Give it back as `cursor` for the next page; null on the last.")


class Retry(BaseModel):
    """Which dead jobs get all their attempts again."""

    model_config = ConfigDict(extra="forbid")

    ids: list[RowId] | None = Field(None, max_length=MAX_RETRIED, description="Left out: all dead jobs.")


class Retried(BaseModel):
    retried: int
