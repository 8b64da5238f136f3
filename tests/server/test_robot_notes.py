"""What people write about a robot, what its heartbeats said differently, and how often it is asked to tell."""

import asyncio
import inspect
import sys

import pytest
from sqlalchemy import text

from lefleet_server.dashboard.markdown import to_html
from lefleet_server.robots import notes
from lefleet_server.robots.watches import Watches

API = "/api/v1"
NOTES = f"{API}/robots/robot-1/notes"
JPEG = b"\xff\xd8\xff a picture \xff\xd9"
POLICY = {"repo": "lab/act", "commit": "1" * 40, "digest": "2" * 64, "type": "act"}


async def changes(client, **which) -> list[tuple]:
    found = (await client.get(f"{API}/robots/robot-1/changes", params=which)).raise_for_status().json()["items"]
    return [(each["what"], each["old"], each["new"]) for each in found]


async def test_notes_are_replaced_by_whoever_read_the_newest(operator, robot):
    empty = {"text": "", "version": 0, "written_by": None, "written_at": None}
    assert (await operator.get(NOTES)).json() == empty
    first = await operator.put(NOTES, json={"text": "Its elbow slips.", "version": 0})
    assert first.json()["version"] == 1 and first.json()["written_by"].startswith("user:operator")
    late = await operator.put(NOTES, json={"text": "Mine", "version": 0})
    assert late.status_code == 409 and "version 1, yours is 0" in late.json()["detail"]
    assert (await operator.put(NOTES, json={"text": "", "version": 1})).json()["version"] == 2
    assert (await operator.get(NOTES)).json()["text"] == ""


async def test_of_two_who_write_at_once_one_is_told(operator, robot):
    both = [operator.put(NOTES, json={"text": name, "version": 0}) for name in ("one", "two")]
    codes = sorted(answer.status_code for answer in await asyncio.gather(*both))
    assert codes == [200, 409]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"text": "x", "version": 3}, 409),
        ({"text": "x" * 20_001, "version": 0}, 422),
        ({"text": "a\x00b", "version": 0}, 422),
        ({"text": "x", "version": -1}, 422),
    ],
)
async def test_notes_that_cannot_be_kept_are_refused(operator, robot, body, code):
    answer = await operator.put(NOTES, json=body)
    assert answer.status_code == code, answer.text
    assert (await operator.get(NOTES)).json()["version"] == 0


async def test_nobody_writes_about_a_robot_that_is_not_there(operator, robot):
    for method, path in (("GET", "notes"), ("PUT", "notes"), ("GET", "changes"), ("GET", "events")):
        answer = await operator.request(method, f"{API}/robots/none/{path}", json={"text": "", "version": 0})
        assert answer.status_code == 404 and "'none'" in answer.json()["detail"]


async def test_a_calibration_is_noted_once_however_often_it_is_told(operator, robot):
    for fingerprint in ("a" * 64, "a" * 64, "b" * 64, "", "b" * 64, "a" * 64):
        (await robot.heartbeat(calibration_fingerprint=fingerprint)).raise_for_status()
    assert await changes(operator, what="calibration") == [
        ("calibration", "b" * 64, "a" * 64),
        ("calibration", "a" * 64, "b" * 64),
        ("calibration", None, "a" * 64),
    ]


async def test_a_day_of_episodes_is_no_change_and_a_fault_is(operator, robot):
    for state in ("starting", "running", "resetting", "running", "fault", "fault", "running"):
        (await robot.heartbeat(state=state)).raise_for_status()
    assert await changes(operator, what="state") == [
        ("state", "fault", "running"),
        ("state", "running", "fault"),
        ("state", None, "running"),
    ]


async def test_another_policy_and_another_agent_are_noted(operator, robot):
    (await robot.heartbeat(policy=POLICY, agent_version="0.1.0")).raise_for_status()
    (await robot.heartbeat(policy=None, agent_version="0.2.0")).raise_for_status()
    (await robot.heartbeat(policy=POLICY | {"commit": "3" * 40}, agent_version="0.2.0")).raise_for_status()
    assert await changes(operator, what="policy") == [
        ("policy", f"lab/act@{'1' * 40}", f"lab/act@{'3' * 40}"),
        ("policy", None, f"lab/act@{'1' * 40}"),
    ]
    assert await changes(operator, what="agent", limit=1) == [("agent", "0.1.0", "0.2.0")]


async def test_a_change_is_noted_also_by_a_server_that_stores_many_heartbeats_at_once(operator, services, robot):
    (await robot.heartbeat(calibration_fingerprint="a" * 64)).raise_for_status()
    async with services.db.transaction() as session:
        await session.execute(
            text('UPDATE robot_status SET heartbeat = heartbeat || \'{"calibration_fingerprint": "c"}\'::jsonb')
        )
    assert (await changes(operator, what="calibration"))[0] == ("calibration", "a" * 64, "c")


async def test_what_people_did_and_what_the_robot_said_are_told_together_newest_first(operator, robot):
    await robot.heartbeat(state="running")
    (await operator.put(f"{API}/robots/robot-1/rest", json={"reason": "a new gripper"})).raise_for_status()
    await robot.heartbeat(state="fault")
    url = f"{API}/robots/robot-1/events"
    found = (await operator.get(url)).raise_for_status().json()["items"]
    said = [(each["what"], each["detail"]) for each in found]
    assert said[:2] == [("State", "running → fault"), ("Rest asked for", "a new gripper")]
    assert [each["by"].partition("-")[0] for each in found[:2]] == ["", "operator"]
    assert ("Enrolled", "") in said
    assert (await operator.get(url, params={"limit": 2})).json()["items"] == found[:2]


async def test_joints_come_with_the_heartbeat_or_are_refused(operator, robot):
    joints = {"names": ["elbow"], "units": ["degrees"], "values": [12.5]}
    assert (await robot.heartbeat(joints=joints)).status_code == 200
    assert (await operator.get(f"{API}/robots/robot-1")).json()["heartbeat"]["joints"] == joints
    refused = await robot.heartbeat(joints=joints | {"values": []})
    assert refused.status_code == 422 and "one length" in refused.text


async def test_a_robot_is_asked_more_often_while_it_is_looked_at(services, robot, enrol):
    other = await enrol("robot-2")
    assert (await robot.heartbeat()).json()["interval_s"] == 5
    elsewhere = Watches(services.db, 5)  # the page may be at another process
    await elsewhere.watch("robot-1")
    await elsewhere.watch("robot-1")
    services.watches.forget()
    answer = (await robot.heartbeat()).json()
    assert (answer["interval_s"], answer["watched"]) == (1, True)
    assert (await other.heartbeat()).json()["interval_s"] == 5
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE robot_watches SET until = now() - interval '1 second'"))
    services.watches.forget()
    answer = (await robot.heartbeat()).json()
    assert (answer["interval_s"], answer["watched"]) == (5, False)


async def test_whoever_asks_for_a_picture_looks_at_the_robot(operator, robot):
    (
        await robot.http.put(f"{API}/robot/cameras/front", content=JPEG, headers={"Content-Type": "image/jpeg"})
    ).raise_for_status()
    assert not (await robot.heartbeat()).json()["watched"]
    (await operator.get(f"{API}/robots/robot-1/cameras/front.jpg")).raise_for_status()
    assert (await robot.heartbeat()).json()["watched"]


async def test_looking_all_the_time_is_written_down_now_and_then(services, robot):
    now_s = 100.0
    watches = Watches(services.db, 5, clock=lambda: now_s)

    async def until():
        async with services.db.session() as session:
            return await session.scalar(text("SELECT until FROM robot_watches"))

    await watches.watch("robot-1")
    first = await until()
    now_s += 2
    await watches.watch("robot-1")
    assert await until() == first
    now_s += 4
    await watches.watch("robot-1")
    assert await until() > first


async def test_changes_beyond_the_newest_of_a_kind_are_removed(operator, services, robot, enrol):
    other = await enrol("robot-2")
    for each in (robot, other):
        (await each.heartbeat(state="running", calibration_fingerprint="a" * 64)).raise_for_status()
    for _ in range(20):
        (await robot.heartbeat(state="fault", calibration_fingerprint="a" * 64)).raise_for_status()
        (await robot.heartbeat(state="running", calibration_fingerprint="a" * 64)).raise_for_status()
    before = await changes(operator, what="state")
    assert len(before) == 41
    assert await notes.prune_changes(services.db, most=5, at_once=7) == 36
    assert await changes(operator, what="state") == before[:5]
    assert await changes(operator, what="calibration") == [("calibration", None, "a" * 64)]
    assert len((await operator.get(f"{API}/robots/robot-2/changes")).json()["items"]) == 2
    assert await notes.prune_changes(services.db, most=5) == 0
    (await robot.heartbeat(state="running")).raise_for_status()
    assert await changes(operator, what="state") == before[:5], "what was said last is known"
    await other.http.aclose()


@pytest.mark.parametrize(
    "text",
    ["> " * 500 + "deep", "[" * 20_000, "![" * 10_000, "- " * 10_000, "*_" * 10_000, "`" * 20_000, "|" * 20_000,
     "[a](" * 5000, "<!--" * 5000, "[a]: b\n" * 2800 + "c", "&" * 20_000, "\\" * 20_000, "* " * 200 + "\n" * 2000],
    ids=lambda text: ascii(text[:4]),
)  # fmt: skip
def test_any_note_is_drawn(text):
    assert to_html(text).startswith("<")


def test_a_note_is_markdown_of_which_no_html_is_obeyed():
    assert to_html("# A\n\n*b* <b>c</b>\n\n| d |\n|---|\n| e |\n") == (
        "<h1>A</h1>\n<p><em>b</em> &lt;b&gt;c&lt;/b&gt;</p>\n"
        "<table>\n<thead>\n<tr>\n<th>d</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>e</td>\n</tr>\n</tbody>\n</table>\n"
    )
    assert "href" not in to_html("[a](javascript:alert(1))")


def test_a_note_that_cannot_be_read_is_shown_as_it_was_written():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 8)
    try:
        html = to_html("> *a* <b>")
    finally:
        sys.setrecursionlimit(limit)
    assert html == "<pre>&gt; *a* &lt;b&gt;</pre>"
