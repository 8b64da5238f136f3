"""The real courier against the real app: what one says, the other understands."""

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import struct
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lefleet_agent import credential
from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import Garbled, Rejected, Retryable, Unauthorised, UploadGone
from lefleet_agent.courier.gate import Gate
from lefleet_agent.courier.losses import LossCheck
from lefleet_agent.courier.pace import Pieces
from lefleet_agent.courier.state import CourierFile
from lefleet_agent.courier.uploads import MOST_GARBLED, Uploader
from lefleet_agent.liveness import Pulse, health
from lefleet_agent.spool import State
from lefleet_agent.wiring import build_courier, build_report
from lefleet_server.app import create_app
from lefleet_server.config import Settings
from lefleet_server.robots.schemas import CourierTold, Heartbeat

CHUNK_BYTES = 64 * 1024


@pytest.fixture
def server(server_settings, run_app) -> str:
    return run_app(create_app(Settings(**server_settings), dashboard=False), server_settings["port"])


@pytest.fixture
def person(server, server_cli) -> httpx.Client:
    server_cli("users", "add", "admin", "--role", "admin")
    link = server_cli("login-link")
    client = httpx.Client(base_url=server)
    client.post("/api/v1/login", json={"code": link.split("code=")[1].strip()}).raise_for_status()
    return client


class Counting:
    def __init__(self) -> None:
        self.sent_bytes = 0
        self.results: list[str] = []

    def __call__(self, count: int, result: str) -> None:
        self.results.append(result)
        self.sent_bytes += count if result == "sent" else 0


def talk(side) -> ServerApi:
    return ServerApi(str(side.settings.server_url), credential.read(side.settings.state_dir, "robot-1").token)


def uploader(side, counted=None, api=None) -> Uploader:
    gate = Gate(None, lambda: False, threading.Event().wait, lambda: None)
    return Uploader(api or talk(side), side.spool, Pieces(CHUNK_BYTES), gate, counted or Counting())


def test_an_episode_arrives_whole_and_only_a_receipt_ends_its_wait(server, enrolled, person):
    side = enrolled(server)
    episode_id = side.record()
    waiting = side.spool.get(episode_id)
    assert waiting.state is State.WAITING
    assert uploader(side).step() and not uploader(side).step()

    kept = side.spool.get(episode_id)
    assert kept.state is State.ACKNOWLEDGED and kept.receipt["sha256"] == waiting.sha256
    file = person.get(f"/api/v1/episodes/{episode_id}/file").content
    assert hashlib.sha256(file).hexdigest() == waiting.sha256 and file == waiting.path.read_bytes()


def test_the_server_reads_everything_that_the_recorder_wrote(server, enrolled, person):
    side = enrolled(server)
    episode_id = side.record(ticks=40)
    uploader(side).step()
    episode = person.get(f"/api/v1/episodes/{episode_id}").json()
    expected = {
        "robot_id": "robot-1",
        "frames": 40,
        "frames_dropped": 0,
        "fps": 30.0,
        "outcome": "success",
        "interrupted": False,
        "end_reason": "task done",
        "task": "Pick up the cube",
        "policy_repo": "lab/act-cube",
        "policy_commit": "c" * 40,
        "policy_digest": "d" * 64,
        "cameras": ["front", "wrist"],
    }
    assert {name: episode[name] for name in expected} == expected
    signals = person.get(f"/api/v1/episodes/{episode_id}/signals").json()
    assert signals["action"][0] == [float(tick) for tick in range(40)]
    assert signals["action_requested"][0] == [tick + 0.5 for tick in range(40)]
    picture = person.get(f"/api/v1/episodes/{episode_id}/frames/front/39.jpg")
    assert picture.headers["content-type"] == "image/jpeg" and picture.content[:2] == b"\xff\xd8"


def test_an_upload_that_was_cut_goes_on_where_it_stopped(server, enrolled):
    side = enrolled(server)
    episode_id = side.record(ticks=60, height=240, width=320)
    size = side.spool.get(episode_id).bytes
    assert size > 6 * CHUNK_BYTES

    class CutAfterThree(ServerApi):
        requests = 0

        def send_bytes(self, url: str, path: Path, offset: int, length: int) -> int:
            self.requests += 1
            if self.requests > 3:
                raise Retryable("the cable is out")
            return super().send_bytes(url, path, offset, length)

    token = credential.read(side.settings.state_dir, "robot-1").token
    with pytest.raises(Retryable):
        uploader(side, api=CutAfterThree(server, token)).step()
    counted = Counting()
    uploader(side, counted).step()
    assert counted.sent_bytes == size - 3 * CHUNK_BYTES
    assert side.spool.get(episode_id).state is State.ACKNOWLEDGED


def test_a_lost_receipt_is_asked_for_again_and_nothing_is_sent_or_stored_twice(server, enrolled, person):
    side = enrolled(server)
    episode_id = side.record()
    first, second = Counting(), Counting()
    api = ServerApi(server, credential.read(side.settings.state_dir, "robot-1").token)
    uploader(side, first)._send(side.spool.get(episode_id))
    assert side.spool.get(episode_id).state is State.WAITING

    uploader(side, second, api).step()
    assert first.sent_bytes and not second.sent_bytes
    assert side.spool.get(episode_id).state is State.ACKNOWLEDGED
    assert len(person.get("/api/v1/episodes").json()["items"]) == 1


def test_a_file_that_changed_on_the_robots_disk_is_refused_kept_and_does_not_hold_up_the_next(server, enrolled):
    side = enrolled(server)
    bad, good = side.record(), side.record()
    path = side.spool.get(bad).path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)

    work = uploader(side)
    while work.step():
        pass
    assert side.spool.get(bad).state is State.REFUSED and "changed on this disk" in side.spool.get(bad).reason
    assert path.exists()
    assert side.spool.get(good).state is State.ACKNOWLEDGED
    assert build_report(side.settings).heartbeat("")["spool"]["refused_episodes"] == 1


class Garbling(ServerApi):
    """Over a way that changes a byte of each body, so many times."""

    left = 0

    def send_bytes(self, url: str, path: Path, offset: int, length: int) -> int:
        if not self.left:
            return super().send_bytes(url, path, offset, length)
        self.left -= 1
        data = bytearray(path.read_bytes())
        data[offset] ^= 0xFF
        other = path.with_suffix(".other")
        other.write_bytes(data)
        return super().send_bytes(url, other, offset, length)


def test_bytes_that_changed_on_their_way_are_sent_again(server, enrolled):
    side = enrolled(server)
    episode_id = side.record()
    api = Garbling(server, credential.read(side.settings.state_dir, "robot-1").token)
    api.left = 1
    work = uploader(side, api=api)
    with pytest.raises(Retryable, match=r"is as it was recorded, and arrived otherwise: .* sha256: announced"):
        work.step()
    assert side.spool.get(episode_id).state is State.WAITING
    assert work.step()
    assert side.spool.get(episode_id).state is State.ACKNOWLEDGED


def test_bytes_that_change_each_time_are_refused_in_the_end_and_offered_again_when_asked(server, enrolled):
    side = enrolled(server)
    episode_id = side.record()
    api = Garbling(server, credential.read(side.settings.state_dir, "robot-1").token)
    api.left = 10**6
    work = uploader(side, api=api)
    for _ in range(MOST_GARBLED - 1):
        with pytest.raises(Retryable):
            work.step()
    assert work.step()
    assert side.spool.get(episode_id).state is State.REFUSED
    assert f"otherwise {MOST_GARBLED} times" in side.spool.get(episode_id).reason
    assert [each.episode_id for each in side.spool.retry_refused()] == [episode_id]
    api.left = 0
    assert work.step()
    assert side.spool.get(episode_id).state is State.ACKNOWLEDGED


def test_a_refused_file_that_somebody_deletes_meanwhile_is_written_off(server, enrolled):
    side = enrolled(server)
    episode_id = side.record()

    class Deleted(Garbling):
        def send_bytes(self, url: str, path: Path, offset: int, length: int) -> int:
            try:
                return super().send_bytes(url, path, offset, length)
            except Garbled:
                path.unlink()
                raise

    api = Deleted(server, credential.read(side.settings.state_dir, "robot-1").token)
    api.left = 1
    assert uploader(side, api=api).step()
    assert side.spool.get(episode_id).state is State.FREED


def test_an_episode_that_keeps_failing_does_not_hold_up_the_others(server, enrolled):
    side = enrolled(server)
    episodes = [side.record(), side.record()]
    token = credential.read(side.settings.state_dir, "robot-1").token
    stuck = side.spool.next_waiting().sha256

    class Stuck(ServerApi):
        def create_upload(self, size_bytes: int, sha256: str, episode_id: str) -> str:
            if sha256 == stuck:
                raise Retryable("500 for this one only")
            return super().create_upload(size_bytes, sha256, episode_id)

    work = uploader(side, api=Stuck(server, token))
    with pytest.raises(Retryable):
        work.step()
    assert work.step()
    with pytest.raises(Retryable):
        work.step()
    states = {side.spool.get(episode).sha256 == stuck: side.spool.get(episode).state for episode in episodes}
    assert states == {True: State.WAITING, False: State.ACKNOWLEDGED}
    assert uploader(side).step()


def test_only_acknowledged_episodes_are_freed_for_the_budget(server, enrolled):
    side = enrolled(server)
    episodes = [side.record(), side.record()]
    work = uploader(side)

    def states() -> list[State]:
        kept = [side.spool.get(episode) for episode in episodes]
        assert [each.path.exists() for each in kept] == [each.state is not State.FREED for each in kept]
        return sorted(each.state for each in kept)

    side.spool.free_to_budget(1)
    assert states() == [State.WAITING, State.WAITING]
    work.step()
    assert states() == [State.ACKNOWLEDGED, State.WAITING]
    side.spool.free_to_budget(1)
    assert states() == [State.FREED, State.WAITING]
    work.step()
    side.spool.free_to_budget(1)
    assert states() == [State.FREED, State.FREED]


def test_what_a_server_restored_from_a_backup_lost_is_offered_again_and_taken(
    server, server_settings, enrolled, person, database_url
):
    """The backup is from between the two episodes; the restored server knows neither the second nor its bytes."""
    side = enrolled(server)
    backed_up, later = side.record(), side.record()
    work = uploader(side)
    while work.step():
        pass
    asyncio.run(forget(database_url, later))
    blob = next(Settings(**server_settings).blobs_dir.rglob(f"*{side.spool.get(later).sha256}*"))
    blob.unlink()

    stop = threading.Event()
    courier = build_courier(side.settings, credential.read(side.settings.state_dir, "robot-1"), stop)
    thread = threading.Thread(target=courier.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while person.get(f"/api/v1/episodes/{later}").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        stop.set()
        thread.join(20)
    assert "lefleet_episodes_offered_again_total 1.0" in courier.exposition()
    assert {side.spool.get(episode).state for episode in (backed_up, later)} == {State.ACKNOWLEDGED}
    file = person.get(f"/api/v1/episodes/{later}/file").content
    assert hashlib.sha256(file).hexdigest() == side.spool.get(later).sha256
    assert len(person.get("/api/v1/episodes").json()["items"]) == 2


async def forget(database_url: str, episode_id: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM episodes WHERE id = $1", episode_id)
    await connection.close()


def test_over_a_link_that_is_cut_every_so_many_bytes_an_episode_arrives_once_and_whole(server, enrolled, person):
    """A proxy in between that resets each connection; the real server keeps what arrived."""
    side = enrolled(server)
    episode_id = side.record(ticks=60, height=240, width=320)
    with CuttingProxy(urlsplit(server).port, cut_after_bytes=150_000) as proxy:
        token = credential.read(side.settings.state_dir, "robot-1").token
        work = uploader(side, api=ServerApi(f"http://127.0.0.1:{proxy.port}", token))
        for _ in range(200):
            with contextlib.suppress(Retryable, UploadGone):
                if not work.step():
                    break
    assert proxy.cuts > 3
    assert side.spool.get(episode_id).state is State.ACKNOWLEDGED
    assert person.get(f"/api/v1/episodes/{episode_id}/file").content == side.spool.get(episode_id).path.read_bytes()


class CuttingProxy:
    """Passes bytes on in both directions, and resets each connection once so many came from the robot."""

    def __init__(self, to_port: int, cut_after_bytes: int) -> None:
        self._to_port, self._cut_after_bytes = to_port, cut_after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts = 0

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                robot, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to_port))
                threading.Thread(target=self._pass, args=(robot, server, self._cut_after_bytes), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, robot, 1 << 40), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, left: int) -> None:
        with contextlib.suppress(OSError):
            while left > 0 and (data := source.recv(min(left, 16384))):
                sink.sendall(data)
                left -= len(data)
            self.cuts += left == 0
            for end in (source, sink):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
        source.close()


@pytest.mark.parametrize("delivered", [True, False])
def test_a_deleted_episode_leaves_the_robot_too_and_is_never_offered_again(server, enrolled, person, delivered):
    """Also when its receipt never reached the robot, which then offers it as new."""
    side = enrolled(server)
    episode_id = side.record()
    waiting = side.spool.get(episode_id)
    counted = Counting()
    if delivered:
        assert uploader(side).step()
    else:
        assert uploader(side)._send(waiting), "the server has it, and the robot does not know"
    person.delete(f"/api/v1/episodes/{episode_id}", params={"reason": "a face is in it"}).raise_for_status()
    with pytest.raises(Retryable, match="was deleted by user:admin"):
        talk(side).create_upload(waiting.bytes, waiting.sha256, episode_id)
    assert uploader(side, counted).step() is not delivered
    assert LossCheck(talk(side), side.spool, lambda _: None).check() == 0
    kept = side.spool.get(episode_id)
    assert (kept.state, counted.sent_bytes) == (State.ACKNOWLEDGED, 0)
    assert [each.episode_id for each in side.spool.free_to_budget(0)] == [episode_id]
    assert not kept.path.exists()


def test_a_code_enrols_once_and_only_its_robot(server, enrolled, server_cli):
    enrolled(server)
    code = server_cli("enrol-code", "robot-2").strip()
    with pytest.raises(Unauthorised):
        ServerApi(server).enrol(code, "robot-3", "0", "test")
    token = ServerApi(server).enrol(code, "robot-2", "0", "test")
    with pytest.raises(Unauthorised):
        ServerApi(server).enrol(code, "robot-2", "0", "test")
    assert ServerApi(server, token).receipt("0" * 64) is None


def test_an_unknown_credential_delivers_nothing_and_loses_nothing(server, enrolled):
    side = enrolled(server)
    episode_id = side.record()
    with pytest.raises(Unauthorised):
        uploader(side, api=ServerApi(server, "lfr_" + "x" * 43)).step()
    assert side.spool.get(episode_id).state is State.WAITING


def test_a_server_that_is_not_there_is_retryable(enrolled, server):
    side = enrolled(server)
    side.record()
    with pytest.raises(Retryable, match="receipts"):
        uploader(side, api=ServerApi("http://127.0.0.1:9", "lfr_x")).step()


def test_an_upload_too_large_for_the_server_is_refused_with_its_sentence(server_settings, run_app, enrolled):
    app = create_app(Settings(**server_settings, max_upload_bytes=1000), dashboard=False)
    side = enrolled(run_app(app, server_settings["port"]))
    episode_id = side.record()
    with pytest.raises(Rejected, match="max_upload_bytes"):
        uploader(side)._send(side.spool.get(episode_id))
    assert uploader(side).step()
    assert side.spool.get(episode_id).state is State.REFUSED


def test_the_running_courier_shows_state_pictures_and_metrics_to_people_and_to_prometheus(server, enrolled, person):
    side = enrolled(server)
    side.record()
    run = side.settings.state_dir / "run"
    stop = threading.Event()
    courier = build_courier(side.settings, credential.read(side.settings.state_dir, "robot-1"), stop)
    thread = threading.Thread(target=courier.run)
    thread.start()
    try:
        robot: dict = {}
        wanted = {"lefleet_spool_episodes", "lefleet_upload_bytes"}

        def complete() -> bool:
            nonlocal robot
            answer = person.get("/api/v1/robots/robot-1")
            robot = answer.json() if answer.is_success else {}
            # Control's end with it, five seconds after its last sign of life: seen once is seen.
            exposed = httpx.get(f"{server}/api/v1/metrics/robot", params={"robot": "robot-1"})
            if exposed.is_success:  # not before the first heartbeat
                wanted.difference_update(family.name for family in text_string_to_metric_families(exposed.text))
            return bool(robot.get("cameras")) and side.spool.next_waiting() is None and not wanted

        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not complete():
            time.sleep(0.1)
        assert robot["online"] and sorted(robot["cameras"]) == ["front", "wrist"] and not wanted
        told = json.loads((run / "control.json").read_text())["calibration_fingerprint"]
        assert robot["heartbeat"]["calibration_fingerprint"] == told
        changes = person.get("/api/v1/robots/robot-1/changes", params={"what": "calibration"}).json()["items"]
        assert [change["new"] for change in changes] == [told]
        picture = person.get("/api/v1/robots/robot-1/cameras/front.jpg").content
        assert picture == (run / "preview" / "front.jpg").read_bytes()
        assert health(run, "courier", time.monotonic_ns()).alive
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def test_pictures_come_often_only_while_somebody_looks(server, enrolled, person, wait_until):
    side = enrolled(server)
    side.record()
    preview = side.settings.state_dir / "run" / "preview" / "front.jpg"
    first = preview.read_bytes()
    second = first[:-2] + b"\x00\xff\xd9"
    stop = threading.Event()
    courier = build_courier(side.settings, credential.read(side.settings.state_dir, "robot-1"), stop)
    thread = threading.Thread(target=courier.run)
    thread.start()

    def told() -> dict:
        answer = person.get("/api/v1/robots/robot-1")  # asks for no picture, so nobody looks
        return answer.json() if answer.is_success else {}

    def shown() -> bytes:
        return person.get("/api/v1/robots/robot-1/cameras/front.jpg").content

    try:
        wait_until(lambda: told().get("cameras") == ["front", "wrist"])
        preview.write_bytes(second)
        seen_at = told()["last_seen_at"]
        wait_until(lambda: told()["last_seen_at"] != seen_at)  # five seconds, in which 25 pictures could have come
        assert shown() == first
        wait_until(lambda: shown() == second)
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def test_a_heartbeat_has_no_field_that_the_server_does_not_know(server, enrolled):
    """Or each would take the server's long way."""
    side = enrolled(server)
    side.record()
    said = CourierFile(side.settings.state_dir / "run" / "courier.json", Pulse(), lambda: 1.5)
    said.trouble["upload"] = "507: the disk is full"
    said()
    told = json.dumps(build_report(side.settings).heartbeat("lefleet_x 1\n"))
    understood = Heartbeat.model_validate_json(told, extra="forbid")
    assert understood.courier == CourierTold(clock_offset_s=1.5, trouble={"upload": "507: the disk is full"})


def test_a_silent_control_process_is_reported_as_down(server, enrolled):
    side = enrolled(server)
    side.record()
    report = build_report(side.settings)
    assert report.heartbeat("")["state"] == "stopped"
    written = side.settings.state_dir / "run" / "control.json"
    written.write_text(json.dumps(json.loads(written.read_text()) | {"state": "running"}))
    assert report.heartbeat("")["state"] == "running"
    values = json.loads(written.read_text())
    written.write_text(json.dumps(values | {"alive_until_monotonic_ns": time.monotonic_ns() - 1}))
    os.utime(written.with_name("control.prom"), (1, 1))
    assert "lefleet_spool_episodes" in build_report(side.settings).control_metrics(), "written seldom is not silent"
    hung = report.heartbeat("")
    assert (hung["state"], hung["detail"]) == ("control_down", "the control process hangs")
    assert hung["joints"] is None, "where the arm was is not where it is"
    written.write_text(json.dumps(values))
    os.utime(written, (1, 1))
    assert build_report(side.settings).heartbeat("")["state"] == "control_down"
    future = time.time() + 10**6
    os.utime(written, (future, future))
    assert build_report(side.settings).heartbeat("")["state"] == "control_down", "a clock that was put back"
