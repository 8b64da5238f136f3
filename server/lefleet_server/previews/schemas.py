"""What goes over HTTP about previews."""

from datetime import datetime
from typing import Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from lefleet_server.previews.models import EpisodePreview

type Kind = Literal["video", "first", "last"]

PLACES = {"video": "video.mp4", "first": "first.jpg", "last": "last.jpg"}


class PreviewOut(BaseModel):
    camera: str
    kind: Kind
    version: int = Field(description="Of the encoder.")
    url: str | None = Field(description="Never changes what it answers; null: there is no file.")
    bytes: int
    width: int
    height: int
    duration_s: float
    reason: str | None = Field(description="Why there is no file.")
    made_at: datetime

    @classmethod
    def of(cls, preview: EpisodePreview) -> Self:
        same = ("camera", "kind", "version", "bytes", "width", "height", "duration_s", "reason", "made_at")
        return cls(url=address(preview), **{name: getattr(preview, name) for name in same})


class PreviewList(BaseModel):
    items: list[PreviewOut]


def address(preview: EpisodePreview) -> str | None:
    """Where its file is, by its digest, so that browsers may keep it; None without one."""
    if preview.sha256 is None:
        return None
    place = f"{quote(preview.episode_id)}/previews/{quote(preview.camera)}/{PLACES[preview.kind]}"
    return f"/api/v1/episodes/{place}?v={preview.sha256}"
