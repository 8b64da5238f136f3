"""`lefleet verdict`, notes, sets, comparison, holds, deletion and retention: what people say and what stays."""

import json

from sqlalchemy import text

from lefleet_server.accounts.models import Role

EPISODE = "a" * 32


async def test_a_verdict_ends_the_episode_that_the_robot_says_runs(robot, with_token):
    script = await with_token()
    await robot.heartbeat(state="idle")
    none = await script("verdict", "robot-1", "success")
    assert none.status == 1 and "no episode runs" in none.err
    await robot.heartbeat(episode_id=EPISODE)
    said = (await script.ok("verdict", "robot-1", "redo", "--json")).item
    assert (said["episode_id"], said["word"]) == (EPISODE, "redo")
    other = await script("verdict", "robot-1", "success", "--episode", "b" * 32)
    assert other.status == 1 and other.err


async def test_notes_are_replaced_unless_somebody_wrote_meanwhile(robot, with_token):
    script = await with_token()
    assert "nobody wrote" in (await script.ok("robots", "notes", "robot-1")).err
    await script.ok("robots", "write-notes", "robot-1", "-", given="the *wrist* is loose")
    assert "the *wrist* is loose" in (await script.ok("robots", "notes", "robot-1")).out
    late = await script("robots", "write-notes", "robot-1", "-", "--version", "0", given="fine")
    assert late.status == 1
    await robot.heartbeat(state="running")
    changed = (await script.ok("robots", "changes", "robot-1", "--what", "state", "--json")).items
    assert changed[0]["new"] == "running"


async def test_a_set_is_filled_exported_and_compared(robot, episode_file, with_token, tmp_path):
    good, bad = episode_file(), episode_file(outcome="failure")
    for path in (good, bad):
        assert (await robot.upload(path)).is_success
    script = await with_token()
    await script.ok("sets", "create", "cubes", "--note", "to train")
    added = await script.ok("sets", "add-matching", "cubes", "--outcome", "success", "--json")
    assert added.item == {"added": 1, "removed": 0}
    await script.ok("sets", "add", "cubes", "-", given=bad.stem)
    await script.ok("sets", "export", "cubes", "--to", tmp_path / "cubes.jsonl")
    lines = (tmp_path / "cubes.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"] for line in lines} == {good.stem, bad.stem}
    (group,) = (await script.ok("compare", "--in-set", "cubes", "--json")).item["groups"]
    assert (group["successes"], group["judged"]) == (1, 2)
    assert "1 of 2" in (await script.ok("compare")).out
    await script.ok("sets", "remove", "cubes", bad.stem)
    assert (await script.ok("episodes", "list", "--in-set", "cubes", "--ids")).out.split() == [good.stem]
    assert (await script("sets", "delete", "cubes")).status == 2


async def test_people_read_when_rules_delete_next_and_what_the_last_night_did(with_token, services):
    script = await with_token(Role.ADMIN)
    shown = (await script.ok("retention", "nights")).out
    assert "never: the server's setting retention_hour_utc is not set" in shown and "none yet" in shown
    night = "INSERT INTO retention_runs (day, worker, ended_at, refused) VALUES ('2026-01-02', 'w', now(), 'too much')"
    async with services.db.transaction() as session:
        await session.execute(text(night))
    shown = (await script.ok("retention", "nights")).out
    assert "2026-01-02: 0 episodes (0 B) deleted" in shown and "too much" in shown and "nothing goes" in shown
    assert (await script.ok("retention", "nights", "--json")).item["last"]["refused"] == "too much"
    refused = await (await with_token())("retention", "nights")
    assert refused.status == 1 and "role admin" in refused.err


async def test_policies_with_episodes_are_listed_once(robot, episode_file, with_token):
    script = await with_token(Role.VIEWER)
    assert "no policies" in (await script.ok("policies")).err
    for _ in range(2):
        path = episode_file()
        assert (await robot.upload(path)).is_success
    policy = (await script.ok("episodes", "show", path.stem, "--json")).item["policy_repo"]
    assert policy and (await script.ok("policies", "--json")).items == [{"name": policy}]


async def test_what_is_held_is_not_deleted_and_rules_begin_disabled(robot, episode_file, with_token):
    path = episode_file()
    assert (await robot.upload(path)).is_success
    script = await with_token(Role.ADMIN)
    await script.ok("episodes", "hold", path.stem, "--reason", "claim 17")
    assert "claim 17" in (await script.ok("holds")).out
    delete = ("episodes", "delete", path.stem, "--reason", "a test")
    assert (await script(*delete)).status == 2
    assert (await script(*delete, "--yes")).status == 1
    await script.ok("episodes", "release", path.stem, "--yes")
    await script.ok("retention", "set", "old", "--older-than-days", "0", "--outcome", "success")
    assert (await script.ok("retention", "plan", "--json")).item["total"]["episodes"] == 0
    assert (await script.ok("retention", "plan", "--rule", "old", "--json")).item["total"]["episodes"] == 1
    asked = await script("retention", "enable", "old")
    assert asked.status == 2 and "would delete 1 episodes" in asked.err
    assert (await script.ok("retention", "enable", "old", "--yes", "--json")).item["outcomes"] == ["success"]
    assert (await script.ok("storage", "--json")).item["episodes"] == 1
    assert "robot-1" in (await script.ok("storage")).out
    assert (await script.ok(*delete, "--yes", "--json")).item["reason"] == "a test"
    assert (await script("episodes", "show", path.stem)).status == 1
