"""What goes over HTTP about episodes."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lefleet_server.deletion.models import DeletedEpisode
from lefleet_server.episodes.labels import MAX_EPISODES, Change, Judged, Labelled
from lefleet_server.episodes.models import Episode
from lefleet_server.fields import EpisodeId, Sha256, Text

type Outcome = Literal["success", "failure", "unknown"]


class Receipt(BaseModel):
    """Proof that the server has an episode, durably."""

    receipt_id: str
    sha256: str
    episode_id: str
    bytes: int
    received_wall_ns: int
    deleted_wall_ns: int | None = Field(None, description="When people deleted it; the robot's copy may go.")

    @classmethod
    def of(cls, episode: Episode | DeletedEpisode) -> Self:
        deleted = episode if isinstance(episode, DeletedEpisode) else None
        return cls(
            receipt_id=episode.receipt_id,
            sha256=episode.sha256,
            episode_id=episode.episode_id if isinstance(episode, DeletedEpisode) else episode.id,
            bytes=episode.bytes,
            received_wall_ns=_wall_ns(episode.received_at),
            deleted_wall_ns=_wall_ns(deleted.deleted_at) if deleted else None,
        )


def _wall_ns(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000


MAX_DIGESTS = 1000


class Held(BaseModel):
    """Episodes that a robot has receipts for and still holds."""

    model_config = ConfigDict(extra="forbid")

    sha256: list[Sha256] = Field(max_length=MAX_DIGESTS, description="At most 1000; ask again for more.")


class Missing(BaseModel):
    sha256: list[str] = Field(description="Those that are not stored: offer them again.")


class EpisodeOut(BaseModel):
    """One episode in a list."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    robot_id: str
    sha256: str
    bytes: int
    received_at: datetime
    started_at: datetime
    ended_at: datetime
    duration_s: float
    frames: int
    frames_dropped: int
    fps: float = Field(description="Rate asked for.")
    hz_held: float = Field(description="Rate held.")
    outcome: Outcome = Field(description="As the robot recorded it.")
    label_outcome: Outcome | None = Field(description="As a person judged it.")
    label_note: str | None
    result: Outcome = Field(description="The person's judgement, or else the robot's.")
    interrupted: bool
    end_reason: str
    task: str
    policy_repo: str
    policy_commit: str
    policy_digest: str
    cameras: list[str]


class EpisodeDetail(EpisodeOut):
    """One episode with everything that made it."""

    labelled_by: str | None = Field(None, description="Who changed its label last; null: nobody ever did.")
    labelled_at: datetime | None = None

    meta: dict[str, Any] = Field(description="The file's other attributes (docs/episode-format.md).")
    image_index: dict[str, Any] = Field(
        description="Per camera: file offset of the first picture, stride, and offset of the lengths (uint32)."
    )


class Flag(BaseModel):
    """One thing about an episode's quality that is beyond its threshold (docs/episode-format.md)."""

    name: str
    value: float
    threshold: float
    unit: str
    where: str = Field(description="The joint or camera; empty: the episode.")


class Analysis(BaseModel):
    """What was found in the file after its receipt."""

    model_config = ConfigDict(from_attributes=True)

    episode_id: str
    version: int = Field(description="Of the rules.")
    state: Literal["analysed", "quarantined"]
    reason: str | None = Field(description="Why it is quarantined.")
    flags: list[Flag]
    statistics: dict[str, Any]
    analysed_at: datetime


class EpisodePage(BaseModel):
    items: list[EpisodeOut]
    next_cursor: str | None = Field(description="Give it back as `cursor` for the next page; null on the last.")


class PolicyOut(BaseModel):
    name: str = Field(description="Its Hub repo, `org/name`.")


class PolicyList(BaseModel):
    items: list[PolicyOut]


class Label(BaseModel):
    """A person's judgement; null takes it back."""

    model_config = ConfigDict(extra="forbid")

    outcome: Outcome | None
    note: Text | None = None


class EpisodeLabel(BaseModel):
    """A change of one episode's label; null takes it back, what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    id: EpisodeId
    outcome: Outcome | None = None
    note: Text | None = None
    was: Label | None = Field(
        None, description="Only if its label is this one; an episode that has another, or was deleted, is left alone."
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set & {"outcome", "note"}:
            raise ValueError("name outcome, note or both")
        return self

    def change(self) -> Change:
        return cast(Change, self.model_dump(include={"outcome", "note"}, exclude_unset=True))


class EpisodeLabels(BaseModel):
    """All are changed, or none."""

    model_config = ConfigDict(extra="forbid")

    labels: list[EpisodeLabel] = Field(min_length=1, max_length=MAX_EPISODES)

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: list[EpisodeLabel]) -> list[EpisodeLabel]:
        ids = [label.id for label in labels]
        if twice := next((id_ for id_ in ids if ids.count(id_) > 1), None):
            raise ValueError(f"episode {twice} is there twice")
        return labels

    def changes(self) -> dict[str, Change]:
        return {label.id: label.change() for label in self.labels}

    def only_if(self) -> dict[str, Judged]:
        return {label.id: Judged(label.was.outcome, label.was.note) for label in self.labels if label.was is not None}


class Relabelled(BaseModel):
    """The labels before, of those that changed: sent back, they undo the change where nobody made another since."""

    labels: list[EpisodeLabel]

    @classmethod
    def of(cls, done: Labelled) -> Self:
        return cls(
            labels=[
                EpisodeLabel.model_validate({"id": id_, **asdict(before), "was": asdict(done.after[id_])})
                for id_, before in done.before.items()
            ]
        )


type Column = list[float | None]


class Signals(BaseModel):
    """One list per signal, one entry per frame; null where a value was not finite."""

    frames: int
    joint_names: list[str]
    joint_units: list[str]
    time_s: Column = Field(description="Since the first frame.")
    qpos: list[Column] = Field(description="One column per joint.")
    action: list[Column] = Field(description="As sent, one column per joint.")
    action_requested: list[Column] = Field(description="As the policy asked, one column per joint.")
    lateness_ms: Column
    inference_ms: Column
    held: list[int] = Field(description="1: the last action was sent again. Empty for files of the first agents.")
    intervention: list[int] = Field(description="1: a person led. Empty for files of the first agents.")
    image_seq: dict[str, list[int]]
    image_age_ms: dict[str, Column] = Field(description="Age of the picture when its frame began.")
