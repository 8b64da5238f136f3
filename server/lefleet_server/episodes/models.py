"""Episodes and the uploads that become them."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Computed,
    ForeignKey,
    Index,
    String,
    false,
    func,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base

_OUTCOMES = "('success', 'failure', 'unknown')"
TASK_BEGINNING_CHARS = 100
"""Of a task's text, in its index: a whole one may be longer than an index takes."""


def _few(name: str, where: str, by: str | None = None) -> Index:
    """A partial index for the list in its order, of all or by one column."""
    columns = (by, "started_at", "id") if by else ("started_at", "id")
    full = f"ix_episodes_{by.split('_')[0]}_{name}" if by else f"ix_episodes_{name}"
    return Index(full, *columns, postgresql_where=text(where))


class Episode(Base):
    """One episode whose file is stored; the row is its receipt."""

    __tablename__ = "episodes"
    __table_args__ = (
        CheckConstraint(f"outcome IN {_OUTCOMES}", name="outcome"),
        CheckConstraint(f"label_outcome IN {_OUTCOMES}", name="label_outcome"),
        Index("ix_episodes_started", "started_at", "id"),
        Index("ix_episodes_received", "received_at", "id"),
        Index("ix_episodes_robot_started", "robot_id", "started_at", "id"),
        Index("ix_episodes_policy_started", "policy_repo", "started_at", "id"),
        Index("ix_episodes_result_started", "result", "started_at", "id"),
        Index("ix_episodes_policy_release_started", "policy_repo", "policy_commit", "started_at", "id"),
        Index("ix_episodes_task_started", text(f'"left"(task, {TASK_BEGINNING_CHARS})'), "started_at", "id"),
        # Several filters: by one alone, PostgreSQL would walk through all of a robot's or a policy's episodes.
        Index("ix_episodes_robot_policy_started", "robot_id", "policy_repo", "started_at", "id"),
        Index("ix_episodes_robot_result_started", "robot_id", "result", "started_at", "id"),
        Index("ix_episodes_policy_result_started", "policy_repo", "result", "started_at", "id"),
        Index("ix_episodes_robot_policy_result_started", "robot_id", "policy_repo", "result", "started_at", "id"),
        # What few episodes are: a walk from the newest to the first such one would be long, and these are small.
        _few("interrupted", "interrupted"),
        _few("interrupted", "interrupted", "robot_id"),
        _few("interrupted", "interrupted", "policy_repo"),
        _few("labelled", "label_outcome IS NOT NULL"),
        _few("labelled", "label_outcome IS NOT NULL", "robot_id"),
        _few("labelled", "label_outcome IS NOT NULL", "policy_repo"),
        _few("labelled", "label_outcome IS NOT NULL", "result"),
        _few("quarantined", "quarantined"),
        # Visited and counted soon after they arrive, so that counting reads the index alone (migration 0009).
        {
            "postgresql_with": {
                "autovacuum_vacuum_insert_scale_factor": 0,
                "autovacuum_vacuum_insert_threshold": 50000,
                "autovacuum_analyze_scale_factor": 0.01,
            }
        },
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """UUID in hexadecimal, given by the robot."""
    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id"))
    receipt_id: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    duration_s: Mapped[float]
    frames: Mapped[int]
    frames_dropped: Mapped[int] = mapped_column(BigInteger)
    fps: Mapped[float]
    hz_held: Mapped[float]
    outcome: Mapped[str]
    """As the robot recorded it."""
    label_outcome: Mapped[str | None]
    """As a person judged it."""
    label_note: Mapped[str | None]
    result: Mapped[str] = mapped_column(Computed("coalesce(label_outcome, outcome)", persisted=True))
    """What filters and statistics use: the person's word before the robot's."""
    interrupted: Mapped[bool]
    end_reason: Mapped[str]
    task: Mapped[str]
    policy_repo: Mapped[str]
    policy_commit: Mapped[str]
    policy_digest: Mapped[str]
    cameras: Mapped[list[str]]
    blob_missing_at: Mapped[datetime | None]
    """When `lefleet-server fsck` found that the file is lost: the robot is asked for it again."""
    quarantined: Mapped[bool] = mapped_column(server_default=false())
    """Whether the file was found to be invalid: a trigger copies it from the analysis (migration 0009)."""
    meta: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    """The file's other attributes (see docs/episode-format.md). Up to a megabyte: read for one episode at a time."""
    image_index: Mapped[dict[str, Any]]
    """{camera: {offset, stride, bytes_offset}}: byte positions in the file of the pictures and of their lengths."""


def task_beginning(of: type[Episode] = Episode) -> ColumnElement[str]:
    """As it is indexed."""
    return func.left(of.task, literal_column(str(TASK_BEGINNING_CHARS)), type_=String())


class RobotStored(Base):
    """What a robot has in the store: triggers keep the sums as the episodes are (migration 0016)."""

    __tablename__ = "robot_stored"

    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"), primary_key=True)
    episodes: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Of files that are there."""
    lost: Mapped[int] = mapped_column(BigInteger)
    """Episodes whose file is not (`Episode.blob_missing_at`)."""
    newest_at: Mapped[datetime]
    """When the last one was received, also if it was deleted since."""


class Upload(Base):
    """A file on its way.

    Its offset is the size of `incoming/<id>`, or with an object store the end of its last UploadPart; never a number
    kept elsewhere. `holder` and `held_until` are the object store's lock: the local one is the file's.
    """

    __tablename__ = "uploads"
    __table_args__ = (Index("uq_uploads_robot_id_sha256", "robot_id", "sha256", unique=True),)

    id: Mapped[str] = mapped_column(primary_key=True)
    robot_id: Mapped[str] = mapped_column(ForeignKey("robots.id", ondelete="CASCADE"))
    sha256: Mapped[str]
    length: Mapped[int] = mapped_column(BigInteger)
    episode_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    holder: Mapped[str | None]
    """The one request that adds bytes or finishes, of whichever process."""
    held_until: Mapped[datetime | None]
    """A process that died lets go at this time."""


class UploadPart(Base):
    """Bytes of an upload that lie in the object store. A row is added after its object is stored, and never changed.

    The primary key is what keeps two writers apart: only one can add the part that begins where the last one ended.
    """

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    length: Mapped[int] = mapped_column(BigInteger)
    object_key: Mapped[str]
    stored_at: Mapped[datetime] = mapped_column(server_default=func.now())
