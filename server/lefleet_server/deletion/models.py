"""What is left of deleted episodes, what must not be deleted, and files that nothing may need any more."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base


class DeletedEpisode(Base):
    """The tombstone: its robot gets the receipt as before and need not keep its copy; the bytes are not taken again."""

    __tablename__ = "deleted_episodes"

    episode_id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    robot_id: Mapped[str]
    receipt_id: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime]
    deleted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_by: Mapped[str]
    """As in the audit log: `user:NAME`, `console`, or `retention`."""
    reason: Mapped[str]


class BlobRemoval(Base):
    """A stored file that may be superfluous: looked at when due, and removed unless something refers to it then."""

    __tablename__ = "blob_removals"
    __table_args__ = (Index("ix_blob_removals_due", "due_at", "sha256"),)

    sha256: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LegalHold(Base):
    """Nothing deletes this episode, or any of this robot's, while the row is there.

    The foreign keys are a second lock on the same door: the database refuses to delete what a row names.
    """

    __tablename__ = "legal_holds"
    __table_args__ = (CheckConstraint("num_nonnulls(episode_id, robot_id) = 1", name="one_subject"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    episode_id: Mapped[str | None] = mapped_column(ForeignKey("episodes.id"), unique=True)
    robot_id: Mapped[str | None] = mapped_column(ForeignKey("robots.id"), unique=True)
    reason: Mapped[str]
    placed_by: Mapped[str]
    placed_at: Mapped[datetime] = mapped_column(server_default=func.now())
