"""`lefleet episodes export`: the whole file, or none and a sentence."""

import pytest
from sqlalchemy import insert

from lefleet_server.analysis.models import EpisodeAnalysis

MAGIC = {"mcap": b"\x89MCAP0\r\n", "rrd": b"RRF2"}


@pytest.fixture
async def episode(robot, episode_file):
    path = episode_file()
    assert (await robot.upload(path)).is_success
    return path.stem


@pytest.mark.parametrize("kind", ["mcap", "rrd"])
async def test_it_writes_the_file_for_the_viewer_that_was_asked_for(with_token, episode, tmp_path, kind):
    target = tmp_path / f"episode.{kind}"
    done = await (await with_token()).ok("episodes", "export", episode, "--format", kind, "-o", target)
    assert (done.out, done.err) == ("", ""), "bars are for terminals"
    assert target.read_bytes().startswith(MAGIC[kind])
    assert [path.name for path in tmp_path.glob("episode*")] == [target.name]


async def test_a_quarantined_one_leaves_no_file_and_says_why(with_token, episode, services, tmp_path):
    bad = {"version": 1, "state": "quarantined", "reason": "no action", "flags": [], "statistics": {}}
    async with services.db.transaction() as session:
        await session.execute(insert(EpisodeAnalysis), [{"episode_id": episode, **bad}])
    done = await (await with_token())("episodes", "export", episode, "--format", "rrd", "-o", tmp_path / "episode.rrd")
    assert (done.status, "quarantined (no action)" in done.err) == (1, True)
    assert list(tmp_path.glob("episode*")) == []


async def test_an_unknown_format_is_wrong_use(with_token, episode, tmp_path):
    done = await (await with_token())("episodes", "export", episode, "--format", "bag", "-o", tmp_path / "episode.bag")
    assert (done.status, "rrd" in done.err, "mcap" in done.err) == (2, True, True)
