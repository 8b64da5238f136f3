"""Robots, their credentials, and the last thing each of them said."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, LargeBinary, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base


class Robot(Base):
    __tablename__ = "robots"

    id: Mapped[str] = mapped_column(primary_key=True)
    """The robot's name: [a-z0-9][a-z0-9-]{0,62}."""
    site: Mapped[str] = mapped_column(server_default="")
    token_hash: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    """SHA-256 of the bearer token; None once revoked."""
    next_token_hash: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    """Of the token that takes over when the robot uses it first; until then the one before stays valid."""
    hw: Mapped[str]
    """What the robot runs on, in its own words."""
    agent_version: Mapped[str]
    enrolled_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EnrolmentCode(Base):
    """One use, spent by compare-and-swap on `used_at`."""

    __tablename__ = "enrolment_codes"

    code_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    robot_id: Mapped[str]
    site: Mapped[str] = mapped_column(server_default="")
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class RobotStatus(Base):
    """The newest heartbeat of a robot: one row that is overwritten, so that the table never grows."""

    __tablename__ = "robot_status"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)  # room for HOT updates of a row rewritten every 5 s

    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"), primary_key=True)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state: Mapped[str]
    episode_id: Mapped[str | None]
    heartbeat: Mapped[dict[str, Any]]
    """The heartbeat as sent (see robots.schemas.Heartbeat), without its metrics."""
    metrics: Mapped[str] = mapped_column(deferred=True, deferred_raiseload=True)
    """The robot's metrics in Prometheus' text format, as sent: most of the row, so whoever needs them asks by name."""


class RobotCamera(Base):
    """The newest picture of one camera."""

    __tablename__ = "robot_cameras"

    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    jpeg: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RobotStop(Base):
    """The newest word of people about a robot's emergency stop: each press and each release rewrites the row."""

    __tablename__ = "robot_stops"

    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    """Grows with each word (see robots.stops); a robot obeys only what is newer than what it obeyed last."""
    wanted: Mapped[bool]
    asked_by: Mapped[str]
    """`user:NAME`, as in the audit log."""
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RobotVerdict(Base):
    """The newest word of a person about the episode that runs on a robot: each word rewrites the row."""

    __tablename__ = "robot_verdicts"

    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    """Grows with each word: a robot asks for what is newer than what it heard."""
    word: Mapped[str]
    """One of robots.Word."""
    episode_id: Mapped[str]
    """The episode that it is about; void for any other."""
    said_by: Mapped[str]
    """`user:NAME`, as in the audit log."""
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RobotOrder(Base):
    """The newest word of people about a robot's rest, or about its task: each word rewrites its row."""

    __tablename__ = "robot_orders"

    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """One of robots.orders.Kind."""
    number: Mapped[int] = mapped_column(BigInteger)
    """Grows with each word; a robot obeys only what is newer than what it obeyed last."""
    value: Mapped[bool | str | None] = mapped_column(JSONB, nullable=False)
    """Whether it is to rest; what it is to do, null for what its settings say."""
    said_by: Mapped[str]
    """`user:NAME`, as in the audit log."""
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())
    reason: Mapped[str] = mapped_column(server_default="")
    """Why, where somebody said so."""


class RobotChange(Base):
    """Something about a robot that its heartbeats said differently than before.

    A trigger on `robot_status` writes it (migration 0008): `what` is `state` (ordinary ones count as `running`),
    `policy` (repo@commit), `calibration` (its fingerprint) or `agent` (its version).
    """

    __tablename__ = "robot_changes"
    __table_args__ = (
        Index("ix_robot_changes_robot_id_what_id", "robot_id", "what", "id"),
        Index("ix_robot_changes_robot_id_id", "robot_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    what: Mapped[str]
    old: Mapped[str | None]
    new: Mapped[str]


class RobotNotes(Base):
    """What people wrote about a robot: one Markdown text; the audit log has those before."""

    __tablename__ = "robot_notes"

    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"), primary_key=True)
    text: Mapped[str]
    version: Mapped[int]
    """Grows with each text; whoever writes names the one they read."""
    written_by: Mapped[str]
    written_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RobotWatch(Base):
    """Until when somebody looks at a robot's page: it is asked to say more often how it is."""

    __tablename__ = "robot_watches"

    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"), primary_key=True)
    until: Mapped[datetime]
