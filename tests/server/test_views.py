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


URL = "/api/v1/me/views"


async def test_people_keep_their_own_views_through_the_api(person):
    ada, vic = await person(Role.VIEWER, "ada"), await person(Role.VIEWER, "vic")
    body = {"page": "fleet", "name": " Bad   ones ", "query": "health=bad"}
    made = (await ada.put(URL, json=body)).raise_for_status().json()
    assert (made["name"], made["query"]) == ("Bad ones", "health=bad")
    again = (await ada.put(URL, json=body | {"query": "health=warn"})).raise_for_status().json()
    assert again["query"] == "health=warn"
    assert (await ada.get(URL)).json() == {"items": [again]}
    assert (await vic.get(URL)).json() == {"items": []}
    missing = await vic.delete(URL, params={"name": "Bad ones"})
    assert missing.status_code == 404 and "'Bad ones'" in missing.json()["detail"]
    assert (await ada.delete(URL, params={"name": "Bad ones"})).status_code == 204
    assert (await ada.get(URL)).json() == {"items": []}
    for client in (ada, vic):
        await client.aclose()


@pytest.mark.parametrize(
    "changes", [{"page": "sets"}, {"name": ""}, {"name": "x" * 61}, {"name": "a\x00"}, {"query": "q" * 2001}]
)
async def test_a_view_that_cannot_be_kept_is_a_problem_that_names_the_field(operator, changes):
    answer = await operator.put(URL, json={"page": "fleet", "name": "a", "query": "q=a"} | changes)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == list(changes)


async def test_a_token_that_only_reads_keeps_no_view(operator, connect):
    made = (await operator.post("/api/v1/tokens", json={"name": "t", "scopes": ["read"]})).raise_for_status().json()
    async with connect(headers={"Authorization": f"Bearer {made['token']}"}) as client:
        assert (await client.get(URL)).is_success
        body = {"page": "fleet", "name": "a", "query": "q=a"}
        assert (await client.put(URL, json=body)).status_code == 403
        assert (await client.delete(URL, params={"name": "a"})).status_code == 403
