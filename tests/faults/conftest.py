"""What the fault tests break: a server in LeFleet's place that misbehaves as told, and a disk that goes or stalls."""

import base64
import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lefleet_agent import credential
from lefleet_agent.credential import Credential
from lefleet_agent.episode import Outcome
from lefleet_agent.spool import Spool

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "bench"))
sys.path.append(str(Path(__file__).parents[1]))

type Fault = Callable[["Request"], None]
"""Answers in the server's place, or not at all; it may close the connection."""


class Request(BaseHTTPRequestHandler):
    """One request to the stand-in: heartbeats, pictures, receipts and tus 1.0, as docs/openapi.json has them."""

    protocol_version = "HTTP/1.1"
    server: "StandIn"

    def _handle(self) -> None:
        self.server.seen.append((self.command, self.path, self.headers.get("Authorization")))
        fault = self.server.faults.get(next(self.server.numbers)) or self.server.fault
        if fault and (self.server.only is None or self.server.only in f"{self.command} {self.path}"):
            fault(self)
        else:
            self._serve()

    do_GET = do_POST = do_PUT = do_HEAD = do_PATCH = _handle  # noqa: N815 - names of the base class

    def _serve(self) -> None:
        server, body = self.server, b"" if self.command == "PATCH" else self.body()
        match self.command, self.path.removeprefix("/api/v1/robot/").split("/"):
            case "POST", ["heartbeat"]:
                server.heartbeats.append(json.loads(body))
                self.reply(200, {"interval_s": 0.2, "instance": "a"})
            case "POST", ["receipts", "missing"]:
                self.reply(200, {"sha256": [d for d in json.loads(body)["sha256"] if d not in server.stored]})
            case "GET", [wishes] if wishes.startswith("wishes?"):
                self.reply(200, {"estop": {"number": 0, "wanted": False}})
            case "GET", ["receipts", sha256]:
                self.reply(200, server.receipt(sha256)) if sha256 in server.stored else self.reply(404, {})
            case "POST", ["uploads"]:
                server.uploads.setdefault(self._announced(), bytearray())
                self.reply(201, headers={"Location": f"/api/v1/robot/uploads/{self._announced()}"})
            case "HEAD" | "PATCH", ["uploads", sha256]:
                self._upload(sha256)
            case _:
                server.pictures += self.command == "PUT"
                self.reply(204)

    def _announced(self) -> str:
        pairs = dict(each.split(" ") for each in self.headers["Upload-Metadata"].split(","))
        return base64.b64decode(pairs["sha256"]).decode()

    def _upload(self, sha256: str) -> None:
        if sha256 not in self.server.uploads:
            self.body()
            self.reply(404, {})
            return
        data = self.server.uploads[sha256]
        if self.command == "PATCH":
            at = int(self.headers["Upload-Offset"])
            if at != len(data):
                self.body()
                self.reply(409, {"type": "wrong-offset"})
                return
            self.receive(data)
        if hashlib.sha256(data).hexdigest() == sha256:
            self.server.stored[sha256] = bytes(data)
        self.reply(204 if self.command == "PATCH" else 200, headers={"Upload-Offset": str(len(data))})

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def receive(self, data: bytearray, most: int | None = None) -> None:
        """Take the body in as it comes, so that what arrived before a cut counts."""
        left = int(self.headers["Content-Length"]) if most is None else most
        while left > 0 and (block := self.rfile.read(min(left, 16384))):
            self.server.received += len(block)
            data += block
            left -= len(block)

    def reply(self, status: int, body: object = None, headers: dict[str, str] | None = None, kind: str = "") -> None:
        data = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind or "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self.server.date or super().date_time_string(timestamp)

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


class StandIn(ThreadingHTTPServer):
    """`faults`: number of a request (from 0) to what happens to it. `fault`: to all whose line contains `only`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.numbers = itertools.count()
        self.faults: dict[int, Fault] = {}
        self.fault: Fault | None = None
        self.only: str | None = None
        self.date = ""
        self.seen: list[tuple[str, str, str | None]] = []
        self.heartbeats: list[dict] = []
        self.uploads: dict[str, bytearray] = {}
        self.stored: dict[str, bytes] = {}
        self.received = self.pictures = 0
        self.ended = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def receipt(self, sha256: str) -> dict[str, object]:
        size = len(self.stored[sha256])
        return {"receipt_id": "r", "sha256": sha256, "episode_id": "e", "bytes": size, "received_wall_ns": 1}

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.ended.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def make_side(robot_side, stand_in) -> Callable:
    """A robot that is enrolled at the stand-in."""

    def make(**courier: object):
        side = robot_side(stand_in.url, **{"retry_max_s": 0.05, "timeout_s": 5, "renew_credential_s": None} | courier)
        side.settings.state_dir.mkdir(exist_ok=True)
        credential.write(side.settings.state_dir, Credential("robot-1", stand_in.url, "lfr_secret"))
        return side

    return make


@pytest.fixture
def put() -> Callable:
    """`put(spool, name, size)` puts random bytes into a spool; returns their SHA-256."""

    def make(spool: Spool, name: str, size: int = 300_000) -> str:
        spool.folder.mkdir(parents=True, exist_ok=True)
        data = os.urandom(size)
        (spool.folder / f"{name}.h5").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        spool.add(
            name,
            f"{name}.h5",
            sha256=digest,
            size_bytes=size,
            outcome=Outcome.FAILURE,
            interrupted=False,
            ended_wall_ns=0,
        )
        return digest

    return make


class Disk:
    """A file system in memory, which can be filled up, set read-only, taken away and brought back."""

    def __init__(self, place: Path, size_mb: int) -> None:
        self.place, self._away = place, place.with_name("away")
        self._away.mkdir()
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size_mb}m", "none", place)

    def fill(self) -> None:
        with (self.place / "filler").open("wb", buffering=0) as file:
            for size in (65536, 4096, 512, 1):
                self._fill(file, size)

    def _fill(self, file, size: int) -> None:
        try:
            while True:
                file.write(b"x" * size)
        except OSError as error:
            assert error.errno == 28

    def empty(self) -> None:
        (self.place / "filler").unlink()

    def read_only(self, on: bool) -> None:
        self._mount("-o", "remount,ro" if on else "remount,rw", self.place)

    def take_away(self) -> None:
        self._mount("--bind", self.place, self._away)
        self._unmount(self.place)

    def bring_back(self) -> None:
        self._mount("--bind", self._away, self.place)
        self._unmount(self._away)

    def end(self) -> None:
        for place in (self.place, self._away):
            subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)

    def _mount(self, *words: str | Path) -> None:
        subprocess.run(["mount", *words], check=True, capture_output=True)

    def _unmount(self, place: Path) -> None:
        subprocess.run(["umount", "--lazy", place], check=True, capture_output=True)


@pytest.fixture
def make_disk() -> Iterator[Callable]:
    """`make_disk(place, size_mb)` mounts one there."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    disks: list[Disk] = []

    def make(place: Path, size_mb: int = 8) -> Disk:
        disks.append(Disk(place, size_mb))
        return disks[-1]

    yield make
    for disk in disks:
        disk.end()
