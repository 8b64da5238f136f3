"""Views of a page that people keep under a name."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Identity, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from lefleet_server.db import Base


class SavedView(Base):
    """One person's filters, order and look of a page, as its address' query."""

    __tablename__ = "saved_views"
    __table_args__ = (UniqueConstraint("user_id", "page", "name", name="uq_saved_views_name"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    page: Mapped[str]
    """`fleet`."""
    name: Mapped[str]
    query: Mapped[str]
    saved_at: Mapped[datetime] = mapped_column(server_default=func.now())
