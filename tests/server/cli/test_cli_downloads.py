"""Downloads over a network that cuts and spoils, by a program that may be killed: whole and right, or not there."""

import asyncio
import fcntl
import hashlib
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from lefleet_server.episodes.models import Episode


@pytest.fixture
def uploaded(robot, episode_file) -> Callable:
    """Sends so many episodes of about 4 MB; their files on the robot, by id."""

    async def send(count: int = 1, ticks: int = 1500) -> dict[str, Path]:
        paths = [episode_file(ticks=ticks + number) for number in range(count)]
        for path in paths:
            assert (await robot.upload(path)).is_success
        return {path.stem: path for path in paths}

    return send


def here(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def right(episodes: dict[str, Path]) -> dict[str, bytes]:
    return {f"robot-1-{name}.h5": path.read_bytes() for name, path in episodes.items()}


async def test_many_come_at_once_and_are_not_fetched_again(network, with_token, uploaded, tmp_path):
    episodes = await uploaded(5, ticks=100)
    script = await with_token(url=network.url)
    first = await script.ok("episodes", "download", "--all", "--to", tmp_path / "a" / "b", "--json")
    assert {item["episode_id"] for item in first.items} == set(episodes)
    assert here(tmp_path / "a" / "b") == right(episodes)
    for item in first.items:
        assert (item["state"], item["received"], item["error"]) == ("downloaded", item["bytes"], None)
        assert hashlib.sha256(Path(item["path"]).read_bytes()).hexdigest() == item["sha256"]
    before = network.passed
    again = await script.ok("episodes", "download", *episodes, "--to", tmp_path / "a" / "b", "--json")
    assert [(item["state"], item["received"]) for item in again.items] == [("present", 0)] * 5
    assert network.passed - before < 50_000
    assert (
        "0 downloaded (0 B), 5 here already"
        in (await script.ok("episodes", "download", "--all", "--to", tmp_path / "a/b")).out
    )
    by_filter = (
        "episodes",
        "download",
        "--robot",
        "robot-1",
        "--outcome",
        "success",
        "--limit",
        "2",
        "--to",
        tmp_path / "c",
    )
    assert "2 downloaded" in (await script.ok(*by_filter)).out
    piped = await script.ok("episodes", "download", "-", "--to", tmp_path / "d", given="\n".join(episodes))
    assert "5 downloaded" in piped.out


async def test_a_download_that_is_cut_goes_on_where_it_was(network, with_token, uploaded, tmp_path):
    episodes = await uploaded()
    (path,) = episodes.values()
    size = path.stat().st_size
    network.cuts = [size // 4, size // 4, size // 4]
    done = await (await with_token(url=network.url)).ok(
        "episodes", "download", *episodes, "--to", tmp_path / "got", "--json"
    )
    assert network.cuts == []
    assert done.item["received"] == size, "no byte came twice"
    assert here(tmp_path / "got") == right(episodes)


async def test_a_network_that_carries_nothing_fails_and_what_came_is_kept(network, with_token, uploaded, tmp_path):
    episodes = await uploaded()
    (path,) = episodes.values()
    network.cuts = [path.stat().st_size // 2, *[0] * 100]
    script = await with_token(url=network.url)
    done = await script("episodes", "download", *episodes, "--to", tmp_path / "got", "--json")
    assert done.status == 4 and done.item["state"] == "failed"
    ((name, part),) = here(tmp_path / "got").items()
    assert name.endswith(".h5.part") and path.read_bytes().startswith(part) and len(part) > 100_000
    network.cuts = []
    resumed = (await script.ok("episodes", "download", *episodes, "--to", tmp_path / "got", "--json")).item
    assert resumed["received"] == resumed["bytes"] - len(part)
    assert here(tmp_path / "got") == right(episodes)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_a_download_that_is_killed_goes_on_where_it_was(network, with_token, uploaded, tmp_path, how, wait_until):
    episodes = await uploaded()
    (path,) = episodes.values()
    network.stops_after = 1_000_000
    script = await with_token(url=network.url)
    part = tmp_path / "got" / f"robot-1-{path.stem}.h5.part"
    process = await script.start("episodes", "download", *episodes, "--to", tmp_path / "got")
    await asyncio.to_thread(wait_until, lambda: part.exists() and part.stat().st_size > 500_000, 60)
    process.send_signal(how)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert how == signal.SIGKILL or b"run it again to go on" in err
    kept = part.stat().st_size
    assert 500_000 < kept < path.stat().st_size
    network.goes_on.set()
    done = (await script.ok("episodes", "download", *episodes, "--to", tmp_path / "got", "--json")).item
    assert done["received"] == done["bytes"] - kept
    assert here(tmp_path / "got") == right(episodes)


@pytest.mark.parametrize("spoil", ["garbage", "one bit", "longer"])
async def test_a_spoilt_part_is_noticed_and_fetched_anew(with_token, uploaded, tmp_path, spoil):
    episodes = await uploaded()
    (path,) = episodes.values()
    whole, folder = path.read_bytes(), tmp_path / "got"
    folder.mkdir()
    half = len(whole) // 2
    parts = {
        "garbage": b"x" * half,
        "one bit": bytes([whole[0] ^ 1]) + whole[1:half],
        "longer": b"y" * (len(whole) + 9),
    }
    (folder / f"robot-1-{path.stem}.h5.part").write_bytes(parts[spoil])
    done = (await (await with_token()).ok("episodes", "download", *episodes, "--to", folder, "--json")).item
    assert done["received"] == len(whole) * (1 if spoil == "longer" else 2) - (0 if spoil == "longer" else half)
    assert here(folder) == right(episodes)


async def test_a_network_that_changes_a_byte_leaves_nothing(network, with_token, uploaded, tmp_path):
    episodes = await uploaded()
    network.spoils = True
    done = await (await with_token(url=network.url))("episodes", "download", *episodes, "--to", tmp_path / "got")
    assert done.status == 1 and "other bytes than its SHA-256" in done.err
    assert here(tmp_path / "got") == {}


async def test_one_that_fails_does_not_stop_the_others_and_is_exit_status_3(with_token, uploaded, tmp_path, services):
    episodes = await uploaded(3, ticks=100)
    lost = next(iter(episodes))
    async with services.db.transaction() as session:
        found = await session.get(Episode, lost)
        services.blobs.path(found.sha256).unlink()
    done = await (await with_token())("episodes", "download", *episodes, "0" * 32, "--to", tmp_path / "got", "--json")
    assert done.status == 3
    why = {item.get("episode_id"): item["error"] for item in done.items if item["state"] == "failed"}
    assert "fsck --repair" in why[lost] and f"no episode '{'0' * 32}'" in why[None]
    assert here(tmp_path / "got") == right({name: path for name, path in episodes.items() if name != lost})


async def test_a_file_with_other_bytes_is_left_alone_unless_it_may_be_replaced(with_token, uploaded, tmp_path):
    episodes = await uploaded(ticks=100)
    (path,) = episodes.values()
    mine = tmp_path / "got" / f"robot-1-{path.stem}.h5"
    mine.parent.mkdir()
    mine.write_bytes(b"what I changed in it")
    script = await with_token()
    refused = await script("episodes", "download", *episodes, "--to", mine.parent)
    assert refused.status == 1 and "--replace" in refused.err
    assert mine.read_bytes() == b"what I changed in it"
    await script.ok("episodes", "download", *episodes, "--to", mine.parent, "--replace")
    assert here(mine.parent) == right(episodes)


async def test_two_at_once_do_not_write_into_one_part(with_token, uploaded, tmp_path):
    episodes = await uploaded(ticks=100)
    part = tmp_path / f"robot-1-{next(iter(episodes))}.h5.part"
    with part.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = await (await with_token())("episodes", "download", *episodes, "--to", tmp_path)
    assert done.status == 1 and "another lefleet is downloading it" in done.err


async def test_a_full_disk_is_told_in_a_sentence(with_token, uploaded, tmp_path):
    episodes = await uploaded()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = await (await with_token())("episodes", "download", *episodes, "--to", tmp_path / "got", preexec_fn=limit)
    assert done.status == 1 and "File too large" in done.err


async def test_a_server_that_names_a_path_writes_nowhere_else(with_token, uploaded, tmp_path, services):
    episodes = await uploaded(ticks=100)
    script = await with_token()
    async with services.db.transaction() as session:
        robot = (await session.get(Episode, next(iter(episodes)))).robot_id
        await session.execute(text_of_robot("../../evil", robot))
        await session.execute(update(Episode).values(robot_id="../../evil"))
    done = await script("episodes", "download", *episodes, "--to", tmp_path / "got")
    assert done.status == 1 and "which is no robot and episode" in done.err
    assert here(tmp_path / "got") == {}


def text_of_robot(new: str, old: str):
    """A robot of a name that no API would take."""
    from sqlalchemy import insert, literal, select

    from lefleet_server.robots.models import Robot

    columns = [column.name for column in Robot.__table__.columns if column.name not in {"id", "token_hash"}]
    rows = select(literal(new), *(getattr(Robot, name) for name in columns)).where(Robot.id == old)
    return insert(Robot).from_select(["id", *columns], rows)
