"""What was found in an episode after its receipt."""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base


class EpisodeAnalysis(Base):
    """The newest finding about one episode: analysed, or quarantined with the reason."""

    __tablename__ = "episode_analysis"
    __table_args__ = (
        CheckConstraint("state IN ('analysed', 'quarantined')", name="state"),
        Index("ix_episode_analysis_quarantined", "episode_id", postgresql_where=text("state = 'quarantined'")),
        Index("ix_episode_analysis_version", "version"),
    )

    episode_id: Mapped[str] = mapped_column(ForeignKey("episodes.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int]
    """Of the rules (`lefleet_server.analysis.VERSION`)."""
    state: Mapped[str]
    reason: Mapped[str | None]
    """Why it is quarantined."""
    flags: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    statistics: Mapped[dict[str, Any]]
    analysed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EpisodeFlag(Base):
    """One flag of one episode, in the order of the list; a trigger keeps it as the analysis is (migration 0011)."""

    __tablename__ = "episode_flags"
    __table_args__ = (Index("ix_episode_flags_started", "flag", "started_at", "episode_id"),)

    ANY: ClassVar = "any"
    """Beside its own flags, what each flagged episode has once."""

    episode_id: Mapped[str] = mapped_column(
        ForeignKey("episode_analysis.episode_id", ondelete="CASCADE"), primary_key=True
    )
    flag: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    """The episode's, which never changes."""


class PendingEpisode(Base):
    """An episode without an analysis, in the order of the list; triggers keep them as they are (migration 0015)."""

    __tablename__ = "pending_episodes"
    __table_args__ = (Index("ix_pending_episodes_started", "started_at", "episode_id"),)

    episode_id: Mapped[str] = mapped_column(ForeignKey("episodes.id", ondelete="CASCADE"), primary_key=True)
    started_at: Mapped[datetime]
    """The episode's, which never changes."""
