"""Named sets of episodes, kept for training, for a report, or to be looked at again."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base


class EpisodeSet(Base):
    __tablename__ = "episode_sets"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    note: Mapped[str] = mapped_column(server_default="")
    created_by: Mapped[str]
    """`user:NAME`, as in the audit log."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EpisodeSetMember(Base):
    """One episode in one set."""

    __tablename__ = "episode_set_members"
    __table_args__ = (
        Index("ix_episode_set_members_started", "set_id", "started_at", "episode_id"),
        Index("ix_episode_set_members_episode_id", "episode_id"),
    )

    set_id: Mapped[int] = mapped_column(ForeignKey("episode_sets.id", ondelete="CASCADE"), primary_key=True)
    episode_id: Mapped[str] = mapped_column(ForeignKey("episodes.id", ondelete="CASCADE"), primary_key=True)
    started_at: Mapped[datetime]
    """The episode's, which never changes: so that a set is listed in order from its own index."""
    added_at: Mapped[datetime] = mapped_column(server_default=func.now())
