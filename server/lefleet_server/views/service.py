"""Keeping a view of a page under a name, for one person alone."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts.models import User
from lefleet_server.audit.service import audit
from lefleet_server.problems import Conflict, Invalid
from lefleet_server.views.models import SavedView

NAME_MAX_CHARS = 60
QUERY_MAX_CHARS = 2000
VIEWS_MAX = 50
"""Of one person on one page."""


async def list_views(session: AsyncSession, user_id: int, page: str) -> Sequence[SavedView]:
    """By name."""
    query = select(SavedView).where(SavedView.user_id == user_id, SavedView.page == page).order_by(SavedView.name)
    return (await session.scalars(query)).all()


async def save(session: AsyncSession, user: User, page: str, name: str, query: str) -> SavedView:
    """Keeps the view; one of the same name is replaced. Raises Invalid, and Conflict when there are too many."""
    name = " ".join(name.split())
    if not name or len(name) > NAME_MAX_CHARS or "\x00" in name:
        raise Invalid(f"a view's name has 1 to {NAME_MAX_CHARS} characters; {len(name)} were given")
    if len(query) > QUERY_MAX_CHARS or "\x00" in query:
        raise Invalid(f"a view's filters have at most {QUERY_MAX_CHARS} characters; these have {len(query)}")
    kept = insert(SavedView).values(user_id=user.id, page=page, name=name, query=query)
    changes = {"query": kept.excluded.query, "saved_at": func.now()}
    swap = kept.on_conflict_do_update(constraint="uq_saved_views_name", set_=changes).returning(SavedView)
    view = (await session.scalars(swap, execution_options={"populate_existing": True})).one()
    count = select(func.count()).where(SavedView.user_id == user.id, SavedView.page == page)
    if (await session.scalar(count) or 0) > VIEWS_MAX:
        raise Conflict(f"you keep {VIEWS_MAX} views of this page already; delete one first")
    audit(session, f"user:{user.username}", "view.saved", f"user:{user.username}", {"page": page, "name": name})
    return view


async def forget(session: AsyncSession, user: User, page: str, name: str) -> bool:
    """Deletes the view; False, and nothing happens, when there is none of this name."""
    which = (SavedView.user_id == user.id, SavedView.page == page, SavedView.name == name)
    gone = await session.execute(delete(SavedView).where(*which).returning(SavedView.id))
    if gone.scalar_one_or_none() is None:
        return False
    audit(session, f"user:{user.username}", "view.deleted", f"user:{user.username}", {"page": page, "name": name})
    return True
