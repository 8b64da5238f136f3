"""The audit log: who changed what, when, and from where."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base


class AuditEntry(Base):
    """Only ever inserted: a trigger of the database refuses UPDATE, DELETE and TRUNCATE (migration 0004)."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_subject_at", "subject", "at"),
        Index("ix_audit_log_actor_id", "actor", "id"),
        Index("ix_audit_log_action_id", "action", "id"),
        Index("ix_audit_log_at", "at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]
    """`user:NAME`, `robot:ID`, `console`, or what acts by itself: `server`, `oidc`, `retention`."""
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]]
    """What changed; `old` and `new` where that is small. Never a secret."""
    via: Mapped[str | None]
    """`token:PREFIX` when an API token spoke for the person; None for a log-in, a robot and the console."""
    address: Mapped[str | None]
    """Where the request came from; None for the console."""
    request_id: Mapped[str | None]
    """The answer's X-Request-Id, which the server's log lines carry too."""
