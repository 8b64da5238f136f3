"""Labels of many episodes at once: all or none, each audited, undone only where nobody judged since."""

import asyncio
import uuid
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, insert, select

from lefleet_server.accounts.models import AuditEntry, User
from lefleet_server.episodes import labels
from lefleet_server.episodes.labels import Judged
from lefleet_server.episodes.models import Episode

URL = "/api/v1/episodes"


@pytest.fixture
async def ids(robot, services) -> list[str]:
    """Six hundred episodes of one robot."""
    now = datetime.now(UTC)
    same = {"robot_id": "robot-1", "bytes": 1, "started_at": now, "ended_at": now, "duration_s": 1, "frames": 1}
    same |= {"frames_dropped": 0, "fps": 30, "hz_held": 30, "outcome": "success", "interrupted": False}
    same |= dict.fromkeys(("end_reason", "task", "policy_repo", "policy_commit", "policy_digest"), "")
    same |= {"cameras": [], "meta": {}, "image_index": {}}
    made = [uuid.uuid4().hex for _ in range(600)]
    rows = [same | {"id": id_, "receipt_id": id_, "sha256": id_ * 2} for id_ in made]
    async with services.db.transaction() as session:
        await session.execute(insert(Episode), rows)
    return made


async def stored(services) -> dict[str, Judged]:
    """Of those that have a label."""
    query = select(Episode.id, Episode.label_outcome, Episode.label_note)
    async with services.db.session() as session:
        rows = (await session.execute(query)).all()
    return {id_: Judged(outcome, note) for id_, outcome, note in rows if (outcome, note) != (None, None)}


async def entries(services) -> int:
    query = select(func.count()).where(AuditEntry.action == "episode.labelled")
    async with services.db.session() as session:
        return await session.scalar(query)


def of(ids: list[str], **change: str | None) -> dict:
    return {"json": {"labels": [{"id": id_} | change for id_ in ids]}}


async def test_five_hundred_are_labelled_in_one_request_and_each_is_audited(ids, operator, services):
    answer = await operator.patch(URL, **of(ids[:500], outcome="failure"))
    assert answer.status_code == 200
    assert await stored(services) == {id_: Judged("failure", None) for id_ in ids[:500]}
    assert await entries(services) == 500
    assert len(answer.json()["labels"]) == 500


async def test_the_answer_sent_back_undoes_it(ids, operator, services):
    await operator.patch(URL, **of(ids[:2], outcome="failure", note="it slipped"))
    before = await stored(services)
    answer = await operator.patch(URL, **of(ids[:4], outcome="success"))
    assert await stored(services) != before
    (await operator.patch(URL, json=answer.json())).raise_for_status()
    assert await stored(services) == before


async def test_the_answer_sent_back_leaves_what_somebody_changed_or_deleted_since(ids, operator, services):
    answer = await operator.patch(URL, **of(ids[:3], outcome="success", note="clean"))
    await operator.patch(URL, **of(ids[1:2], note="I looked twice"))
    async with services.db.transaction() as session:
        await session.delete(await session.get_one(Episode, ids[2]))
    undone = (await operator.patch(URL, json=answer.json())).raise_for_status().json()
    assert [each["id"] for each in undone["labels"]] == ids[:1]
    assert await stored(services) == {ids[1]: Judged("success", "I looked twice")}
    again = (await operator.patch(URL, json=answer.json())).raise_for_status().json()
    assert again == {"labels": []}, "it is undone once"


async def test_a_note_alone_leaves_the_outcome_and_what_is_so_already_is_no_change(ids, operator, services):
    await operator.patch(URL, **of(ids[:1], outcome="failure"))
    answer = await operator.patch(URL, **of(ids[:2], note="dark"))
    assert await stored(services) == {ids[0]: Judged("failure", "dark"), ids[1]: Judged(None, "dark")}
    assert [each["id"] for each in answer.json()["labels"]] == sorted(ids[:2])
    known = await entries(services)
    assert (await operator.patch(URL, **of(ids[:2], note="dark"))).json() == {"labels": []}
    assert await entries(services) == known


async def test_one_that_is_not_there_changes_none(ids, operator, services):
    answer = await operator.patch(URL, **of([*ids[:3], "0" * 32], outcome="failure"))
    assert answer.status_code == 404
    assert "0" * 32 in answer.json()["detail"]
    assert (await stored(services), await entries(services)) == ({}, 0)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "labels"),
        ({"labels": []}, "labels"),
        ({"labels": [{"id": "x", "outcome": "success"}]}, "labels.0.id"),
        ({"labels": [{"id": "a" * 32}]}, "labels.0"),
        ({"labels": [{"id": "a" * 32, "was": {"outcome": None}}]}, "labels.0"),
        ({"labels": [{"id": "a" * 32, "outcome": "won"}]}, "labels.0.outcome"),
        ({"labels": [{"id": "a" * 32, "outcome": None}] * 2}, "labels"),
        ({"labels": [{"id": f"{n:032x}", "outcome": None} for n in range(501)]}, "labels"),
    ],
)
async def test_a_wrong_change_names_the_field(operator, body, field):
    answer = await operator.patch(URL, json=body)
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json()["errors"]]


async def test_two_changes_of_the_same_episodes_follow_one_another(ids, operator, person, services):
    other = await person()
    backwards = ids[:200][::-1]
    answers = await asyncio.gather(
        operator.patch(URL, **of(ids[:200], outcome="success")), other.patch(URL, **of(backwards, outcome="failure"))
    )
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(set((await stored(services)).values())) == 1
    await other.aclose()


async def test_undo_leaves_what_somebody_judged_since(ids, operator, services):
    async with services.db.transaction() as session:
        user = (await session.scalars(select(User).limit(1))).one()
        done = await labels.label(session, user, {id_: {"outcome": "failure"} for id_ in ids[:3]})
    await operator.patch(URL, **of(ids[1:2], note="I looked twice"))
    async with services.db.transaction() as session:
        undone = await labels.undo(session, user, done)
    assert undone.after.keys() == {ids[0], ids[2]}
    assert await stored(services) == {ids[1]: Judged("failure", "I looked twice")}
