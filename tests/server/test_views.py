"""Saved views: one person's own, replaced by name, few enough to list, and audited."""

import pytest
from sqlalchemy import select

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import Role, User
from lefleet_server.audit.models import AuditEntry
from lefleet_server.problems import Conflict, Invalid
from lefleet_server.views import service as views


@pytest.fixture
async def people(services):
    async with services.db.transaction() as session:
        for name in ("ada", "vic"):
            await accounts.put_user(session, name, Role.VIEWER, None, "test")
        return list(await session.scalars(select(User).order_by(User.username)))


async def kept(services, user) -> list[tuple[str, str]]:
    async with services.db.session() as session:
        return [(view.name, view.query) for view in await views.list_views(session, user.id, "fleet")]


async def save(services, user, name, query="health=bad") -> None:
    async with services.db.transaction() as session:
        await views.save(session, user, "fleet", name, query)


async def test_a_view_is_its_owners_alone_and_replaced_by_name(services, people):
    ada, vic = people
    await save(services, ada, "  Bad   ones ")
    await save(services, ada, "Bad ones", "health=bad&site=north")
    await save(services, ada, "All", "")
    assert await kept(services, ada) == [("All", ""), ("Bad ones", "health=bad&site=north")]
    async with services.db.transaction() as session:
        await views.forget(session, vic, "fleet", "All")
        await views.forget(session, ada, "fleet", "All")
    assert await kept(services, ada) == [("Bad ones", "health=bad&site=north")]
    async with services.db.session() as session:
        actions = select(AuditEntry.action, AuditEntry.actor).where(AuditEntry.action.like("view.%"))
        entries = (await session.execute(actions.order_by(AuditEntry.id))).all()
    assert [tuple(entry) for entry in entries] == [("view.saved", "user:ada")] * 3 + [("view.deleted", "user:ada")]


@pytest.mark.parametrize(("name", "query"), [("", "q=a"), ("x" * 61, "q=a"), ("a\x00", "q=a"), ("a", "q" * 2001)])
async def test_a_view_that_cannot_be_kept_is_refused(services, people, name, query):
    with pytest.raises(Invalid):
        await save(services, people[0], name, query)
    assert await kept(services, people[0]) == []


async def test_nobody_keeps_views_without_end(services, people):
    for number in range(views.VIEWS_MAX):
        await save(services, people[0], f"view {number}")
    with pytest.raises(Conflict, match="delete one first"):
        await save(services, people[0], "one more")
    await save(services, people[0], "view 3", "q=other")
    assert len(await kept(services, people[0])) == views.VIEWS_MAX
