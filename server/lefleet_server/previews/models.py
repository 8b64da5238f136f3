"""What was made of an episode's pictures."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base


class EpisodePreview(Base):
    """One file made of one camera's pictures, in the store under its SHA-256; or why there can be none."""

    __tablename__ = "episode_previews"
    __table_args__ = (
        CheckConstraint("kind IN ('video', 'first', 'last')", name="kind"),
        CheckConstraint("(sha256 IS NULL) <> (reason IS NULL)", name="file_or_reason"),
        Index("ix_episode_previews_sha256", "sha256"),
        Index("ix_episode_previews_version", "version"),
    )

    episode_id: Mapped[str] = mapped_column(ForeignKey("episodes.id", ondelete="CASCADE"), primary_key=True)
    camera: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    """Of the encoder (`lefleet_server.previews.VERSION`)."""
    sha256: Mapped[str | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    duration_s: Mapped[float]
    reason: Mapped[str | None]
    """Why there is no file."""
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
