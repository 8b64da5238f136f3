"""What goes over HTTP about sets."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from lefleet_server.fields import EpisodeId, Text
from lefleet_server.sets.service import MAX_IDS, SetView

SetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class NewSet(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: SetName
    note: Text = ""


class SetOut(BaseModel):
    name: str
    note: str
    episodes: int
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, view: SetView) -> Self:
        of = view.set
        return cls(
            name=of.name, note=of.note, episodes=view.episodes, created_by=of.created_by, created_at=of.created_at
        )


class SetList(BaseModel):
    items: list[SetOut] = Field(description="By name.")


class SetChange(BaseModel):
    """Episodes by their ids, all or none."""

    model_config = ConfigDict(extra="forbid")

    add: list[EpisodeId] = Field(default=[], max_length=MAX_IDS)
    remove: list[EpisodeId] = Field(default=[], max_length=MAX_IDS)

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.add and not self.remove:
            raise ValueError("name episodes to add, to remove, or both")
        return self


class SetChanged(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    added: int = Field(description="Those that were not in it.")
    removed: int = Field(description="Those that were in it.")
