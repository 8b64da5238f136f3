"""What was found in an episode after its receipt."""

from datetime import datetime
from typing import Any

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
