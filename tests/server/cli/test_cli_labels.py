"""`lefleet episodes label`, `note` and `undo`: what is changed, and what is taken back."""

import json

import pytest
from sqlalchemy import select

from lefleet_server.accounts.models import Role
from lefleet_server.episodes.models import Episode


@pytest.fixture
async def ids(robot, episode_file) -> list[str]:
    paths = [episode_file() for _ in range(3)]
    for path in paths:
        assert (await robot.upload(path)).is_success
    return [path.stem for path in paths]


@pytest.fixture
def labels(services):
    async def stored() -> dict[str, tuple]:
        """Of those that have a label or a note."""
        query = select(Episode.id, Episode.label_outcome, Episode.label_note)
        async with services.db.session() as session:
            return {id_: (outcome, note) for id_, outcome, note in await session.execute(query) if outcome or note}

    return stored


async def test_a_note_leaves_the_outcome_as_it_is(ids, with_token, labels):
    script = await with_token()
    await script.ok("episodes", "label", "failure", ids[0])
    noted = await script.ok("episodes", "note", " the light was off ", ids[0], ids[1], "--json")
    assert noted.items == [{"id": id_, "label_note": "the light was off"} for id_ in ids[:2]]
    assert await labels() == {ids[0]: ("failure", "the light was off"), ids[1]: (None, "the light was off")}
    shown = (await script.ok("episodes", "show", ids[0])).out
    assert "the light was off" in shown and "by operator-" in shown
    assert "no note" in (await script.ok("episodes", "note", "", "-", given="\n".join(ids))).out
    assert await labels() == {ids[0]: ("failure", None)}
    assert (await script("episodes", "note", "x", "e" * 32)).status == 1
    refused = await (await with_token(Role.VIEWER))("episodes", "note", "x", ids[0])
    assert refused.status == 1 and "role operator" in refused.err


async def test_the_last_change_is_taken_back_once(ids, with_token, labels):
    script = await with_token()
    nothing = await script("episodes", "undo", "--yes")
    assert nothing.status == 1 and "no labels were changed" in nothing.err
    await script.ok("episodes", "label", "failure", ids[0], "--note", "it slipped")
    before = await labels()
    await script.ok("episodes", "label", "success", *ids, "--note", "fine")
    await script.ok("episodes", "label", "success", ids[0])  # it is so already: nothing to take back
    asked = await script("episodes", "undo")
    assert asked.status == 2 and "Give 3 episodes the labels back" in asked.err and await labels() != before
    done = await script.ok("episodes", "undo", "--yes", "--json")
    assert {item["id"]: (item["label_outcome"], item["label_note"]) for item in done.items} == {
        ids[0]: ("failure", "it slipped"), ids[1]: (None, None), ids[2]: (None, None),
    }  # fmt: skip
    assert await labels() == before
    assert (await script("episodes", "undo", "--yes")).status == 1


async def test_what_somebody_changed_since_stays(ids, with_token, labels):
    script, other = await with_token(), await with_token()
    await script.ok("episodes", "label", "failure", *ids)
    await other.ok("episodes", "note", "I looked twice", ids[1])
    done = await script("episodes", "undo", "--yes")
    assert done.status == 3 and "1 of 3 stay as they are" in done.err
    assert await labels() == {ids[1]: ("failure", "I looked twice")}


async def test_a_change_of_many_requests_is_taken_back_whole(ids, with_token, labels, monkeypatch):
    script = await with_token()
    given = [*ids[:2], "e" * 32, ids[2]]  # one that is not there: the others are sent one by one
    assert (await script("episodes", "label", "unknown", *given)).status == 3
    assert len(await labels()) == 3
    await script.ok("episodes", "undo", "--yes")
    assert await labels() == {}


async def test_labels_of_another_fleet_are_not_sent_to_this_one(ids, with_token, labels, running, free_port):
    script = await with_token()
    await script.ok("episodes", "label", "failure", ids[0])
    script.environment["LEFLEET_URL"] = elsewhere = f"http://127.0.0.1:{free_port()}"
    refused = await script("episodes", "undo", "--yes")
    assert refused.status == 1 and running in refused.err and elsewhere in refused.err
    script.environment["LEFLEET_URL"] = running
    await script.ok("episodes", "undo", "--yes")
    assert await labels() == {}


async def test_labels_are_given_also_where_nothing_can_be_kept(ids, with_token, labels):
    script = await with_token()
    place = script.home / ".local" / "state"
    place.parent.mkdir(parents=True)
    place.write_text("a file, and no folder")
    done = await script.ok("episodes", "label", "failure", ids[0])
    assert "cannot be written" in done.err and len(await labels()) == 1
    place.unlink()
    await script.ok("episodes", "label", "success", ids[0])
    kept = place / "lefleet" / "last-labels.jsonl"
    assert kept.stat().st_mode & 0o077 == 0
    assert json.loads(kept.read_text().splitlines()[1])["id"] == ids[0]
    kept.write_text("{")
    broken = await script("episodes", "undo", "--yes")
    assert broken.status == 1 and str(kept) in broken.err and "remove it" in broken.err
