"""Videos, exports and sets as files: resumed where they can be, compared, whole or not there, and told to scripts."""

import hashlib
import os

import pytest
from sqlalchemy import insert

from lefleet_server.episodes.models import Episode
from lefleet_server.previews.models import EpisodePreview


@pytest.fixture
async def episode(robot, episode_file) -> str:
    path = episode_file(ticks=600)
    assert (await robot.upload(path)).is_success
    return path.stem


@pytest.fixture
async def video(services, episode) -> bytes:
    """What the store has as its video of `wrist`."""
    data = os.urandom(3_000_000)
    sha256 = hashlib.sha256(data).hexdigest()
    path = services.blobs.path(sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    row = {"episode_id": episode, "camera": "wrist", "kind": "video", "version": 1, "sha256": sha256}
    row |= {"bytes": len(data), "width": 640, "height": 480, "duration_s": 20.0}
    async with services.db.transaction() as session:
        await session.execute(insert(EpisodePreview).values(row))
    return data


@pytest.fixture
async def mcap(with_token, episode, tmp_path) -> bytes:
    await (await with_token()).ok("episodes", "export", episode, "--format", "mcap", "--to", tmp_path / "whole.mcap")
    return (tmp_path / "whole.mcap").read_bytes()


@pytest.fixture(params=["video", "mcap"])
def resumable(request, episode) -> tuple[list[str], bytes]:
    """A command but for `--to`, and what it must write."""
    words = {"video": ["video", episode, "wrist"], "mcap": ["export", episode, "--format", "mcap"]}[request.param]
    return ["episodes", *words], request.getfixturevalue(request.param)


def parts(network) -> list[bytes]:
    """The requests that asked for a part of this very file."""
    heads = [head.lower() for head in network.asked]
    return [head for head in heads if b"\r\nrange: bytes=" in head and b"\r\nif-range: " in head]


async def test_what_is_cut_goes_on_where_it_was(network, with_token, resumable, tmp_path):
    words, whole = resumable
    network.cuts = [len(whole) // 3, len(whole) // 3]
    target = tmp_path / "got" / "file"
    target.parent.mkdir()
    done = await (await with_token(url=network.url)).ok(*words, "--to", target, "--json")
    assert network.cuts == [] and len(parts(network)) == 2
    assert done.item == {"path": str(target), "bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == {"file": whole}


@pytest.mark.parametrize("is_right", [True, False])
async def test_a_part_from_before_is_gone_on_with_unless_it_is_spoilt(
    network, with_token, resumable, tmp_path, is_right
):
    words, whole = resumable
    target, part = tmp_path / "file", tmp_path / "file.part"
    part.write_bytes(whole[: len(whole) // 2] if is_right else b"x" * 1000)
    await (await with_token(url=network.url)).ok(*words, "--to", target)
    assert target.read_bytes() == whole and not part.exists()
    assert len(parts(network)) == 1


async def test_what_is_here_already_is_not_fetched_again(network, with_token, episode, video, tmp_path):
    words = ("episodes", "video", episode, "wrist", "--to", tmp_path / "file")
    script = await with_token(url=network.url)
    (tmp_path / "file").write_bytes(b"another video")
    await script.ok(*words)
    assert (tmp_path / "file").read_bytes() == video
    inode = (tmp_path / "file").stat().st_ino
    await script.ok(*words)
    assert (tmp_path / "file").stat().st_ino == inode


async def test_what_cannot_be_resumed_leaves_nothing_when_it_is_cut(network, with_token, episode, tmp_path):
    network.cuts = [100_000]
    script = await with_token(url=network.url)
    done = await script("episodes", "export", episode, "--format", "rrd", "--to", tmp_path / "file")
    assert done.status == 4 and "the connection broke" in done.err
    assert list(tmp_path.glob("file*")) == []


@pytest.mark.parametrize(("kind", "to"), [("mcap", "file"), ("rrd", "file"), ("rrd", "-")])
async def test_bytes_that_were_changed_on_the_way_are_noticed(network, with_token, episode, tmp_path, kind, to):
    network.spoils = True
    script = await with_token(url=network.url)
    target = to if to == "-" else tmp_path / to
    words = ("episodes", "export", episode, "--format", kind, "--to", target)
    process = await script.start(*words)
    _, err = await process.communicate()
    assert process.returncode == 1 and b"other bytes than its SHA-256" in err
    assert list(tmp_path.glob("file*")) == []


async def test_pictures_and_sets_say_what_was_written(robot, with_token, episode, services, tmp_path):
    jpeg = b"\xff\xd8\xff" + b"p" * 100 + b"\xff\xd9"
    await robot.http.put("/api/v1/robot/cameras/wrist", content=jpeg, headers={"Content-Type": "image/jpeg"})
    script = await with_token()
    await script.ok("sets", "create", "cubes")
    await script.ok("sets", "add", "cubes", episode)
    commands = (["robots", "picture", "robot-1", "wrist"], ["episodes", "picture", episode, "wrist", "3"])
    for words in (*commands, ["sets", "export", "cubes"]):
        target = tmp_path / "-".join(words[:2])
        data = (await script.ok(*words, "--to", target, "--json")).item
        found = target.read_bytes()
        assert data == {"path": str(target), "bytes": len(found), "sha256": hashlib.sha256(found).hexdigest()}
    for words in commands:
        both = await script(*words, "--to", "-", "--json")
        assert both.status == 2 and "give --to a FILE" in both.err
    lines = await script.ok("sets", "export", "cubes", "--json")
    assert lines.out == (await script.ok("sets", "export", "cubes")).out
    async with services.db.session() as session:
        assert lines.item["sha256"] == (await session.get(Episode, episode)).sha256
    numbers = await script.ok("episodes", "signals", episode, "--json")
    assert numbers.item["frames"] == 600


@pytest.mark.parametrize("command", ["video", "rrd", "set"])
async def test_a_bar_shows_how_far_it_is(network, with_token, episode, video, tmp_path, command):
    script = await with_token(url=network.url)
    await script.ok("sets", "create", "cubes")
    await script.ok("sets", "add", "cubes", episode)
    words = {
        "video": ["episodes", "video", episode, "wrist"],
        "set": ["sets", "export", "cubes"],
    }.get(command, ["episodes", "export", episode, "--format", command])
    script.environment["TERM"] = "xterm"
    network.stops_after = 0 if command == "set" else 1000  # after the head, and after some of the file
    async with script.at_terminal(*words, "--to", tmp_path / "file") as terminal:
        await terminal.until(b"downloading")
        network.goes_on.set()
        assert await terminal.status() == 0
    assert (tmp_path / "file").exists()
