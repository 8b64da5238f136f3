"""The courier against a server, a link and a clock that misbehave: no episode is refused, lost or sent in vain."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
import time
from email.utils import formatdate

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lefleet_agent import credential
from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import Rejected, Retryable, ServerError
from lefleet_agent.courier.gate import Gate
from lefleet_agent.courier.losses import AGAIN_S, ALWAYS_S, LossCheck
from lefleet_agent.courier.pace import Pieces
from lefleet_agent.courier.uploads import Uploader
from lefleet_agent.spool import SpoolError, State
from lefleet_agent.wiring import build_courier, build_report

pytestmark = pytest.mark.faults

PORTAL = "<html>Welcome to the guest network, please log in</html>"


def status(code: int, body: object = None, kind: str = "", **headers: str):
    def fault(request) -> None:
        request.body()
        request.reply(code, body, {name.replace("_", "-"): value for name, value in headers.items()}, kind)

    return fault


def close(request) -> None:
    request.hang_up()


def cut(request) -> None:
    """Half of the body arrives, then the connection is reset; an upload keeps that half."""
    half = int(request.headers.get("Content-Length", 0)) // 2
    upload = request.server.uploads.get(request.path.rsplit("/", 1)[-1], bytearray())
    request.receive(upload if request.command == "PATCH" else bytearray(), half)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.hang_up()


def lost_answer(request) -> None:
    """The request is done, its answer never arrives."""
    request.wfile, answer = open(os.devnull, "wb"), request.wfile  # noqa: PTH123, SIM115
    request._serve()
    request.wfile.close()
    request.wfile = answer
    request.hang_up()


def half_answer(request) -> None:
    request.body()
    request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    request.hang_up()


def nonsense(request) -> None:
    request.wfile.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
    request.hang_up()


FAULTS = {
    "429": status(429, {"title": "Too Many Requests"}, Retry_After="0"),
    "500": status(500, {"detail": "x"}),
    "502 of a proxy": status(502, "<html>bad gateway</html>", "text/html"),
    "503 with a date": status(503, Retry_After=formatdate(0, usegmt=True)),
    "413 of a proxy": status(413, "<html>too large</html>", "text/html"),
    "422 of a stranger": status(422, {"detail": "no"}),
    "400": status(400, "bad"),
    "401 of a proxy": status(401, "who are you"),
    "404 of a proxy": status(404, "no such page", "text/html"),
    "405": status(405),
    "409 of a stranger": status(409, {"type": 7, "errors": {"a": 1}, "title": ["x"]}),
    "a portal's redirect": status(302, Location="http://portal.example/"),
    "a portal": status(200, PORTAL, "text/html"),
    "JSON that is no object": status(200, [1]),
    "JSON of another kind": status(200, {"hello": "there"}),
    "closed": close,
    "cut in the middle": cut,
    "the answer is lost": lost_answer,
    "half an answer": half_answer,
    "no HTTP": nonsense,
}


def talk(side) -> ServerApi:
    found = credential.read(side.settings.state_dir, "robot-1")
    return ServerApi(str(side.settings.server_url), found.token, side.settings.courier.timeout_s)


def uploader(side, api=None) -> Uploader:
    gate = Gate(None, lambda: False, threading.Event().wait, lambda: None)
    return Uploader(api or talk(side), side.spool, Pieces(1 << 16), gate, lambda *_: None)


def deliver_all(work: Uploader, attempts: int = 12) -> None:
    for _ in range(attempts):
        with contextlib.suppress(ServerError):
            if not work.step():
                return
    raise AssertionError(f"not delivered in {attempts} attempts")


@contextlib.contextmanager
def courier(side):
    """The whole courier, on a thread; gives its metrics."""
    stop = threading.Event()
    built = build_courier(side.settings, credential.read(side.settings.state_dir, "robot-1"), stop)
    thread = threading.Thread(target=built.run)
    thread.start()
    try:
        yield lambda: {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(built.exposition())
            for sample in family.samples
        }
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("what", FAULTS)
def test_whatever_happens_to_any_one_request_the_episode_arrives_whole(make_side, stand_in, put, what):
    side = make_side()
    work = uploader(side)
    for number in range(9):
        digest = put(side.spool, f"e{number}", size=200_000 + number)
        stand_in.faults = {len(stand_in.seen) + number: FAULTS[what]}
        deliver_all(work)
        assert side.spool.get(f"e{number}").state is State.ACKNOWLEDGED, number
        assert stand_in.stored[digest] == (side.spool.folder / f"e{number}.h5").read_bytes()


@pytest.mark.parametrize("what", FAULTS)
def test_a_heartbeat_that_anything_happens_to_is_one_to_try_again(make_side, stand_in, what):
    side = make_side()
    api = talk(side)
    stand_in.fault = FAULTS[what]
    with pytest.raises(ServerError) as caught:
        api.heartbeat({})
    assert not isinstance(caught.value, Rejected)
    stand_in.fault = None
    assert api.heartbeat({}).instance == "a"


def test_a_link_that_is_cut_in_every_piece_still_makes_headway_with_the_same_episode(make_side, stand_in, put):
    side = make_side()
    put(side.spool, "a", size=1_000_000)
    put(side.spool, "b", size=1_000_000)
    work = uploader(side)
    stand_in.fault, stand_in.only = cut, "PATCH"
    for _ in range(20):
        with pytest.raises(Retryable):
            work.step()
    little, much = sorted(len(data) for data in stand_in.uploads.values())
    assert little <= 1 << 16 and much >= 500_000, "one of them gets on, not both a little"
    stand_in.fault = None
    deliver_all(work)
    assert side.spool.next_waiting() is None
    assert stand_in.received == 2_000_000, "what had arrived was not sent again"


def test_a_server_that_takes_bytes_and_counts_none_does_not_get_them_for_ever(make_side, stand_in, put):
    side = make_side()
    put(side.spool, "a")

    def forgets(request) -> None:
        request.body()
        request.reply(204, headers={"Upload-Offset": request.headers["Upload-Offset"]})

    stand_in.fault, stand_in.only = forgets, "PATCH"
    with pytest.raises(Retryable, match="and says it has 0"):
        uploader(side).step()
    assert side.spool.get("a").state is State.WAITING


def test_the_credential_goes_to_no_other_server(make_side, stand_in, put):
    side = make_side()
    put(side.spool, "a")
    stand_in.faults = {1: status(201, Location="http://localhost:9/api/v1/robot/uploads/x")}
    with pytest.raises(Retryable, match="rewrites Location"):
        uploader(side).step()
    stand_in.faults = {2: status(302, Location="http://localhost:9/")}
    with pytest.raises(Retryable, match="302"):
        talk(side).heartbeat({})


def test_a_partial_upload_that_the_server_lost_in_the_middle_begins_anew_at_once(make_side, stand_in, put):
    side = make_side()
    digest = put(side.spool, "a", size=400_000)

    def restored(request) -> None:
        request.server.uploads.clear()
        request._serve()

    stand_in.faults = {5: restored}
    assert uploader(side).step()
    assert side.spool.get("a").state is State.ACKNOWLEDGED
    assert stand_in.stored[digest] == (side.spool.folder / "a.h5").read_bytes()


def test_a_file_that_is_shorter_than_recorded_is_refused_here_and_one_that_is_gone_is_noted_as_lost(
    make_side, stand_in, put
):
    side = make_side()
    for name in ("good", "short", "gone"):
        put(side.spool, name)
    (side.spool.folder / "short.h5").write_bytes(b"short")
    (side.spool.folder / "gone.h5").unlink()
    deliver_all(uploader(side))
    spool = side.spool
    assert (
        spool.get("short").state is State.REFUSED and "has 5 bytes, 300000 were recorded" in spool.get("short").reason
    )
    assert spool.get("gone").state is State.FREED and spool.stats().lost_episodes == 1
    assert spool.get("good").state is State.ACKNOWLEDGED


@pytest.mark.timeout(60)
@pytest.mark.parametrize("drip", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_a_server_that_drips_its_answer_holds_nobody_for_ever(make_side, stand_in, drip):
    """Each byte comes in time; only their sum would never end."""
    side = make_side(timeout_s=0.5)

    def drips(request) -> None:
        request.body()
        request.wfile.write(drip)
        with contextlib.suppress(OSError):
            while not request.server.ended.wait(0.1):
                request.wfile.write(b"x")
        request.hang_up()

    stand_in.faults = {0: drips}
    api = talk(side)
    with pytest.raises(Retryable):
        api.heartbeat({})
    assert api.heartbeat({}).instance == "a", "and the next goes over a connection of its own"


@pytest.mark.parametrize(("asked", "expected"), [("7", 7), ("Sat, 20 Dec 2121 12:00:00 GMT", 300), ("9" * 30, 300)])
@pytest.mark.parametrize("code", [429, 503])
def test_the_pause_that_a_server_asks_for_is_known_and_limited(make_side, stand_in, code, asked, expected):
    stand_in.fault = status(code, Retry_After=asked)
    with pytest.raises(Retryable) as caught:
        talk(make_side()).heartbeat({})
    assert caught.value.retry_after_s == expected


@pytest.mark.parametrize("years", [-50, 14])
def test_a_clock_that_is_decades_off_is_seen_and_changes_nothing(make_side, stand_in, put, wait_until, years):
    """To the courier it is the same whether its own clock is wrong or the server's."""
    off_s = years * 365 * 86400
    stand_in.date = formatdate(time.time() + off_s, usegmt=True)
    side = make_side()
    put(side.spool, "a")
    stand_in.faults = {2: status(503, Retry_After=formatdate(time.time() + off_s, usegmt=True))}
    with courier(side) as metrics:
        wait_until(lambda: side.spool.next_waiting() is None and stand_in.heartbeats)
        wait_until(lambda: (build_report(side.settings).heartbeat("")["courier"] or {}).get("clock_offset_s"))
        said = build_report(side.settings).heartbeat("")["courier"]["clock_offset_s"]
        assert abs(said - off_s) < 3600 and abs(metrics()["lefleet_clock_offset_seconds",] - off_s) < 3600


def test_while_an_episode_runs_only_heartbeats_and_emergency_stops_go_if_so_wished(
    make_side, stand_in, put, wait_until
):
    side = make_side(quiet_while_running=True)
    run = side.settings.state_dir / "run"
    (run / "preview").mkdir(parents=True)
    (run / "preview" / "front.jpg").write_bytes(b"jpeg")
    put(side.spool, "a")
    state, ended = ["running"], threading.Event()

    def control() -> None:
        while not ended.wait(0.1):
            (run / "control.part").write_text(json.dumps({"state": state[0]}))
            (run / "control.part").rename(run / "control.json")

    writer = threading.Thread(target=control)
    writer.start()
    try:
        wait_until((run / "control.json").exists)
        with courier(side):
            wait_until(lambda: len(stand_in.heartbeats) >= 5)
            paths = {path.partition("?")[0] for _, path, _ in stand_in.seen}
            assert paths == {"/api/v1/robot/heartbeat", "/api/v1/robot/wishes"}
            assert side.spool.get("a").state is State.WAITING
            state[0] = "idle"
            wait_until(lambda: side.spool.next_waiting() is None and stand_in.pictures)
    finally:
        ended.set()
        writer.join()


def test_a_limit_holds_while_heartbeats_go_on(make_side, stand_in, put, wait_until):
    side = make_side(upload_bytes_per_s=100_000)
    put(side.spool, "a", size=350_000)
    with courier(side):
        wait_until(lambda: side.spool.next_waiting() is None)
    assert stand_in.received == 350_000
    methods = [method for method, path, _ in stand_in.seen if method == "PATCH" or path.endswith("/heartbeat")]
    pieces = [number for number, method in enumerate(methods) if method == "PATCH"]
    assert len(pieces) == 4, "none is larger than a second's worth"
    assert "POST" in methods[pieces[0] : pieces[-1]]


def test_trouble_is_told_to_people_and_to_prometheus_and_is_over_when_it_is_over(make_side, stand_in, put, wait_until):
    side = make_side()
    put(side.spool, "a")
    stand_in.fault, stand_in.only = status(507, {"title": "Insufficient Storage"}), "/uploads"

    def trouble() -> dict[str, str]:
        return (build_report(side.settings).heartbeat("")["courier"] or {}).get("trouble") or {}

    with courier(side) as metrics:
        wait_until(lambda: "Insufficient Storage" in trouble().get("upload", ""))
        assert metrics()["lefleet_courier_retries_total", "upload"] >= 1
        stand_in.fault = None
        wait_until(lambda: side.spool.next_waiting() is None and trouble() == {})


def test_what_left_the_disk_is_told(make_side, stand_in, put, wait_until):
    side = make_side()
    put(side.spool, "delivered")
    put(side.spool, "gone")
    (side.spool.folder / "gone.h5").unlink()
    deliver_all(uploader(side))
    side.spool.free_to_budget(0)
    with courier(side) as metrics:
        wait_until(lambda: ("lefleet_episodes_freed_total", "false") in metrics())
        found = metrics()
        assert found["lefleet_episodes_freed_total", "false"] == found["lefleet_episodes_freed_total", "true"] == 1
        wait_until(lambda: stand_in.heartbeats)
        assert stand_in.heartbeats[-1]["spool"]["lost_episodes"] == 1


@pytest.mark.parametrize("how", ["silent", "dripping"])
def test_told_to_end_in_the_middle_of_an_upload_it_ends_at_once_and_goes_on_later(
    make_side, stand_in, put, agent_command, wait_until, how
):
    side = make_side(timeout_s=300)
    digest = put(side.spool, "a", size=400_000)

    def hangs(request) -> None:
        """Takes half and then nothing more, or answers a byte at a time."""
        upload = request.server.uploads[digest]
        request.receive(upload, int(request.headers["Content-Length"]) // 2)
        with contextlib.suppress(OSError):
            while not request.server.ended.wait(0.2):
                if how == "dripping":
                    request.wfile.write(b"H")
        request.hang_up()

    stand_in.fault, stand_in.only = hangs, "PATCH"
    process = subprocess.Popen(agent_command("courier", "--config", side.config))
    try:
        wait_until(lambda: stand_in.received > 0, 120)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
    assert side.spool.get("a").state is State.WAITING
    arrived = stand_in.received
    stand_in.fault = None
    deliver_all(uploader(side))
    assert stand_in.stored[digest] == (side.spool.folder / "a.h5").read_bytes()
    assert stand_in.received == 400_000 and arrived


def test_a_disk_that_vanishes_and_returns_stops_no_heartbeat_and_loses_nothing(
    make_side, make_disk, stand_in, put, wait_until
):
    side = make_side()
    disk = make_disk(side.settings.state_dir / "spool")
    put(side.spool, "a")
    (side.settings.state_dir / "run").mkdir()
    with courier(side) as metrics:
        wait_until(lambda: side.spool.get("a").state is State.ACKNOWLEDGED)
        disk.take_away()
        stand_in.heartbeats.clear()
        wait_until(lambda: any("look whether its disk" in each["detail"] for each in stand_in.heartbeats))
        assert stand_in.heartbeats[-1]["spool"]["error"] and stand_in.heartbeats[-1]["spool"]["bytes"] == 300_000
        wait_until(lambda: metrics()["lefleet_spool_usable",] == 0)
        assert not list(disk.place.iterdir()), "no second spool"
        disk.bring_back()
        digest = put(side.spool, "b")
        wait_until(lambda: metrics()["lefleet_spool_usable",] == 1)
        wait_until(lambda: digest in stand_in.stored)
    assert [side.spool.get(name).state for name in "ab"] == [State.ACKNOWLEDGED] * 2
    assert (disk.place / "a.h5").exists()


def test_a_read_only_disk_costs_no_episode_and_none_is_sent_twice(make_side, make_disk, stand_in, put):
    side = make_side()
    disk = make_disk(side.settings.state_dir / "spool")
    spool = side.spool
    digests = [put(spool, name) for name in "abc"]
    spool.close()  # the kernel sets no disk read-only by our wish while a file is open for writing
    disk.read_only(True)
    work = uploader(side)
    for _ in range(3):
        with pytest.raises(SpoolError, match="what is on it stays"):
            work.step()
    disk.read_only(False)
    deliver_all(work)
    assert set(digests) == set(stand_in.stored)
    assert {side.spool.get(name).state for name in "abc"} == {State.ACKNOWLEDGED}
    assert stand_in.received == 3 * 300_000


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_the_server_lost_is_asked_for_at_the_start_after_its_start_and_once_a_day(make_side, stand_in, put):
    side = make_side()
    digests = {name: put(side.spool, name) for name in "abc"}
    deliver_all(uploader(side))
    clock, counted = Clock(), []
    check = LossCheck(talk(side), side.spool, counted.append, clock)

    def asked() -> int:
        return sum(path.endswith("/missing") for _, path, _ in stand_in.seen)

    def restore(*names: str) -> None:
        for name in names:
            del stand_in.stored[digests[name]], stand_in.uploads[digests[name]]

    check.heard("first")
    restore("a")
    check(), check()
    assert (asked(), counted) == (1, [1])
    assert [side.spool.get(name).state for name in "abc"] == [State.WAITING] + [State.ACKNOWLEDGED] * 2
    restore("b")
    check.heard("second")
    check()
    assert asked() == 1, "not at once: others of its processes may just be starting"
    clock.now_s += AGAIN_S
    check(), check()
    assert (asked(), counted) == (2, [1, 1])
    for instance in ("first", "second", "first"):
        check.heard(instance)
        clock.now_s += AGAIN_S
        check()
    assert asked() == 2, "both processes of this server are known"
    restore("c")
    clock.now_s += ALWAYS_S
    check(), check()
    assert (asked(), counted) == (3, [1, 1, 1])
    deliver_all(uploader(side))
    assert set(stand_in.stored) == set(digests.values())


def test_a_server_that_is_too_old_to_be_asked_is_not_asked_all_the_time(make_side, stand_in, put):
    side = make_side()
    put(side.spool, "a")
    deliver_all(uploader(side))
    stand_in.fault, stand_in.only = status(404, {}), "/missing"
    assert LossCheck(talk(side), side.spool, lambda _: None)() > 600
    assert side.spool.get("a").state is State.ACKNOWLEDGED


@pytest.mark.parametrize("what", [name for name in FAULTS if name not in ("the answer is lost",)])
def test_no_wrong_answer_takes_a_receipt_back(make_side, stand_in, put, what):
    side = make_side()
    put(side.spool, "a")
    deliver_all(uploader(side))
    stand_in.fault, stand_in.only = FAULTS[what], "/missing"
    with contextlib.suppress(ServerError):
        LossCheck(talk(side), side.spool, lambda _: None)()
    assert side.spool.get("a").state is State.ACKNOWLEDGED
