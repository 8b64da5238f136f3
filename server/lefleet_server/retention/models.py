"""Rules by which episodes are deleted, and the nights on which they were."""

from datetime import date, datetime

from sqlalchemy import BigInteger, CheckConstraint, false, func
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base


class RetentionRule(Base):
    """See lefleet_server.retention.rules for what the columns mean; a list that is empty does not restrict."""

    __tablename__ = "retention_rules"
    __table_args__ = (CheckConstraint("num_nonnulls(older_than_days, quota_bytes) > 0", name="has_limit"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    older_than_days: Mapped[float | None]
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    outcomes: Mapped[list[str]]
    robots: Mapped[list[str]]
    labelled: Mapped[bool | None]
    enabled: Mapped[bool] = mapped_column(server_default=false())
    changed_by: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RetentionRun(Base):
    """One night's run: claimed by one worker, taken over when it gives no sign of life, ended once."""

    __tablename__ = "retention_runs"

    day: Mapped[date] = mapped_column(primary_key=True)
    worker: Mapped[str]
    beat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    episodes: Mapped[int] = mapped_column(server_default="0")
    bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    refused: Mapped[str] = mapped_column(server_default="")
    """Why it deleted nothing though it would have; empty where it did what the rules say."""
