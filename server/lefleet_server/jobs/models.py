"""The queue: one row per piece of work that is not done yet. Done work leaves no row; its result does."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base


class Job(Base):
    """`queued`, `running` under a claim, or `dead`: given up, kept with its reason until somebody retries it."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'dead')", name="state"),
        UniqueConstraint("queue", "episode_id", "version", name="uq_jobs_work"),
        Index("ix_jobs_due", "priority", "run_after", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_heartbeat", "heartbeat_at", postgresql_where=text("state = 'running'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    queue: Mapped[str]
    """What kind of work."""
    episode_id: Mapped[str] = mapped_column(ForeignKey("episodes.id", ondelete="CASCADE"))
    version: Mapped[int]
    """Of the work's rules: the same episode under new rules is other work."""
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    """Lower first: what just arrived goes before what is done over."""
    state: Mapped[str] = mapped_column(server_default="queued")
    attempts: Mapped[int] = mapped_column(server_default="0")
    """Counted when claimed, so that work which kills its worker counts too."""
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    claim: Mapped[str | None]
    """Of one attempt alone: a worker that was thought dead cannot end another one's attempt."""
    worker: Mapped[str | None]
    heartbeat_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    reason: Mapped[str | None]
    """Why the last attempt failed."""
