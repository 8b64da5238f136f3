"""The server's disk and PostgreSQL's, really full: who is told what, and that all goes on once there is space."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import av
import httpx
import numpy as np
import pytest
import small_episodes
import yaml
from killable import Postgres, Program, command
from robot_uploads import Robot
from test_server_faults import TUS, Server, announce, deliver, patch, write_episode

from lefleet_server.episodes import bounded
from lefleet_server.exports import Format
from lefleet_server.problems import NoSpace

pytestmark = pytest.mark.faults


@pytest.fixture
def disk(make_disk, tmp_path):
    """What the server keeps its files on."""
    return make_disk(tmp_path / "disk", 64)


@pytest.fixture
def server(server_settings, disk, tmp_path, wait_until) -> Iterator[Server]:
    settings = server_settings | {"state_dir": str(disk.place)}
    yield from served(settings, tmp_path, wait_until)


def served(settings: dict, folder: Path, wait_until) -> Iterator[Server]:
    config = folder / "server.yml"
    config.write_text(yaml.safe_dump(settings))
    server = Server(config, f"http://127.0.0.1:{settings['port']}", folder / "server.log", wait_until)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def token(server) -> str:
    code = server.run("enrol-code", "robot-1")["code"]
    body = {"code": code, "robot_id": "robot-1", "agent_version": "0.1.0"}
    return httpx.post(f"{server.base}/api/v1/robots/enrol", json=body).raise_for_status().json()["token"]


@pytest.fixture
def robot(server, token) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
        yield client


@pytest.fixture
def worker(server, tmp_path) -> Iterator[Program]:
    program = Program(["worker"], server.config, tmp_path / "worker.log", lambda: True)
    yield program
    program.stop()


@pytest.fixture
def ask(server_settings) -> Callable[[str], list[asyncpg.Record]]:
    """`ask(query)`: rows of the database."""

    async def rows(query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(server_settings["database_url"])
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    return lambda query: asyncio.run(rows(query))


def arrived_bytes(disk) -> int:
    return sum(path.stat().st_size for path in (disk.place / "incoming").iterdir())


def test_filled_in_the_middle_of_a_request_it_says_so_and_keeps_what_came(server, robot, disk, tmp_path, wait_until):
    path = write_episode(tmp_path, 100)
    data = path.read_bytes()
    url = announce(robot, path, data).headers["location"]

    def then_the_disk_is_full():
        yield data[: 3 << 20]
        wait_until(lambda: arrived_bytes(disk) >= 2 << 20)
        disk.fill()
        yield data[3 << 20 :]

    answer = patch(robot, url, then_the_disk_is_full(), 0)
    assert answer.status_code == 507
    assert answer.json()["detail"] == "the server's disk is full; free some of it, the upload goes on where it stopped"
    offset = int(robot.head(url, headers=TUS).headers["upload-offset"])
    assert 2 << 20 <= offset < len(data)
    assert httpx.get(f"{server.base}/readyz").json()["checks"]["incoming"] == (
        "incoming: cannot be written: No space left on device"
    )
    disk.empty()
    assert patch(robot, url, data[offset:], offset).status_code == 204
    assert deliver(robot, path, data)["bytes"] == len(data)


def test_filled_between_pieces_the_robot_waits_and_goes_on_by_itself(server, token, disk, tmp_path, wait_until):
    spool = tmp_path / "spool"
    spool.mkdir()
    path = write_episode(spool, 100)
    sender = Robot("robot-1", token, [server.base], spool)
    sender.add(path)
    thread = threading.Thread(target=sender.run)
    thread.start()
    try:
        wait_until(lambda: arrived_bytes(disk) > 1 << 20)
        disk.fill()
        wait_until(lambda: sender.seen["answered 507"] > 1)
        (part,) = (disk.place / "incoming").iterdir()
        arrived, number = part.stat().st_size, part.stat().st_ino
        assert 1 << 20 < arrived < path.stat().st_size
        disk.empty()
    finally:
        sender.finish()
        thread.join(60)
    (blob,) = (each for each in (disk.place / "blobs").rglob("*") if each.is_file())
    assert blob.stat().st_ino == number, "what had come by then stayed"
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    assert sender.lost() == 0
    sender.close()


def test_filled_while_a_preview_is_made_it_is_made_again_and_whole(
    server, robot, worker, disk, tmp_path, wait_until, ask
):
    path = small_episodes.write_episode(tmp_path, "robot-1", np.random.default_rng(1), camera=True)
    deliver(robot, path, path.read_bytes())
    making = disk.place / "making"
    worker.start()
    wait_until(lambda: list(making.iterdir()), 120)
    disk.fill()
    full = "SELECT 1 FROM jobs WHERE queue = 'previews' AND reason LIKE '%NoSpace: the server''s disk is full%'"
    wait_until(lambda: ask(full), 60)
    assert ask("SELECT 1 FROM episode_previews") == []
    disk.empty()
    wait_until(lambda: not ask("SELECT 1 FROM jobs"), 120)
    made = ask("SELECT kind, sha256, reason, duration_s FROM episode_previews")
    assert {row["kind"]: row["reason"] for row in made} == {"video": None, "first": None, "last": None}
    for row in made:
        blob = disk.place / "blobs" / row["sha256"][:2] / row["sha256"][2:4] / row["sha256"]
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == row["sha256"]
        with av.open(str(blob)) as opened:
            assert len(list(opened.decode(video=0))) >= (10 if row["kind"] == "video" else 1)
    assert list(making.iterdir()) == []
    assert worker.process.poll() is None


@pytest.mark.parametrize("kind", Format)
async def test_an_export_that_finds_no_space_is_no_fault_of_the_episode(kind, make_disk, tmp_path):
    path = small_episodes.write_episode(tmp_path, "robot-1", np.random.default_rng(1), camera=True)
    full = make_disk(tmp_path / "full")
    (full.place / "export").touch()
    full.fill()
    with pytest.raises(NoSpace, match="the server's disk is full"):
        await bounded.ask("lefleet_server.exports.process", kind, path, full.place / "export", timeout_s=120)


class TestOfTheDatabase:
    """PostgreSQL's own disk; the server's files lie on another."""

    @pytest.fixture
    def disk(self, open_folder, make_disk):
        return make_disk(open_folder / "disk", 192)

    @pytest.fixture
    def database(self, disk, open_folder, free_port) -> Iterator[Postgres]:
        config = open_folder / "server.yml"
        settings = {"state_dir": f"{open_folder}/state", "postgres_dir": f"{disk.place}/postgres", "port": free_port()}
        config.write_text(yaml.safe_dump(settings | {"min_free_bytes": 0, "log_format": "console"}))
        program = Postgres(config, open_folder / "postgres.log")
        program.start()
        try:
            program.wait_ready()
            command(config, "migrate")
            yield program
        finally:
            program.stop()
            command(config, "postgres", "--erase")

    @pytest.fixture
    def server(self, database, open_folder, wait_until) -> Iterator[Server]:
        yield from served(yaml.safe_load(database.config.read_text()), open_folder, wait_until)

    def test_full_it_is_told_no_program_ends_and_all_goes_on_with_space(
        self, server, robot, worker, database, disk, tmp_path, wait_until
    ):
        accepted = [episode(tmp_path)]
        receipts = [deliver(robot, *accepted[0])]
        worker.start()
        wait_until(lambda: not database.ask("SELECT 1 FROM jobs WHERE queue = 'analysis'"), 120)
        disk.fill()
        ready = httpx.get(f"{server.base}/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"].startswith("has no space left on its disk; free some")
        for _ in range(300):  # what is left of the pages that rows are in takes some yet
            late = episode(tmp_path)
            if (answer := attempt(robot, *late)).status_code != 204:
                break
            accepted.append(late)
        assert answer.status_code == 507
        assert (
            answer.json()["detail"] == "the database's disk is full; free some of it, then everything goes on by itself"
        )
        assert answer.headers["retry-after"] == "30"
        assert deliver(robot, *accepted[0]) == receipts[0]
        assert ended(server, worker, database) == [None] * 3
        disk.empty()
        assert httpx.get(f"{server.base}/readyz").status_code == 200
        deliver(robot, *late)
        for each in accepted:
            sha256 = hashlib.sha256(each[1]).hexdigest()
            assert robot.get(f"/api/v1/robot/receipts/{sha256}").status_code == 200
        wait_until(lambda: not database.ask("SELECT 1 FROM jobs"), 120)
        assert len(database.ask("SELECT 1 FROM episode_analysis WHERE state = 'analysed'")) == len(accepted) + 1
        assert ended(server, worker, database) == [None] * 3

    def test_without_room_for_its_log_it_is_away_and_all_goes_on_with_space(
        self, server, robot, worker, database, disk, tmp_path, wait_until
    ):
        first, late = episode(tmp_path), episode(tmp_path)
        deliver(robot, *first)
        worker.start()
        wait_until(lambda: not database.ask("SELECT 1 FROM jobs WHERE queue = 'analysis'"), 120)
        asyncio.run(log_until_it_fails(database, disk.fill))
        assert b"PANIC" in database.log.read_bytes()
        # It may end for good, as it does where its recovery finds no room either.
        wait_until(lambda: httpx.get(f"{server.base}/readyz").status_code == 503)
        assert attempt(robot, *late).status_code in {503, 507}
        assert ended(server, worker) == [None] * 2
        disk.empty()
        database.revive()
        database.wait_ready()
        wait_until(lambda: httpx.get(f"{server.base}/readyz").status_code == 200, 60)
        deliver(robot, *late)
        for each in (first, late):
            assert robot.get(f"/api/v1/robot/receipts/{hashlib.sha256(each[1]).hexdigest()}").status_code == 200
        wait_until(lambda: not database.ask("SELECT 1 FROM jobs"), 120)
        assert ended(server, worker) == [None] * 2


async def log_until_it_fails(database: Postgres, fill: Callable[[], None]) -> None:
    """Has PostgreSQL write ahead until there is no room for its next file. The disk is filled when it listens."""
    connection = await asyncpg.connect(**database.arguments())
    try:
        fill()
        for _ in range(100):
            await connection.execute("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 4000000))")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return
    finally:
        connection.terminate()
    raise AssertionError("there was room for 400 MB of its log")


def episode(folder: Path) -> tuple[Path, bytes]:
    path = small_episodes.write_episode(folder, "robot-1", np.random.default_rng(), camera=False)
    return path, path.read_bytes()


def attempt(robot: httpx.Client, path: Path, data: bytes) -> httpx.Response:
    """The whole file at once; the first answer that is none of success, or the last."""
    begun = announce(robot, path, data)
    return patch(robot, begun.headers["location"], data, 0) if begun.is_success else begun


def ended(server: Server, *programs: Program) -> list[int | None]:
    """Exit statuses; None of one that runs."""
    return [process.poll() for process in (server.process, *(each.process for each in programs)) if process]
