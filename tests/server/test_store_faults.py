"""Two API processes, one PostgreSQL and an S3 store that fails: no acknowledged byte is lost, one episode comes out."""

import asyncio
import base64
import contextlib
import hashlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from lefleet_server.config import Settings

pytestmark = pytest.mark.faults
TUS = {"Tus-Resumable": "1.0.0"}
UPLOADS = "/api/v1/robot/uploads"
PIECE_BYTES = 100_000


@pytest.fixture
def own_s3(object_stores, tmp_path, free_port) -> Iterator:
    """An S3 server of this test's own, to be killed, and a proxy before it."""
    server = object_stores.S3Server(tmp_path / "s3", free_port())
    (tmp_path / "s3").mkdir()
    server.start()
    proxy = object_stores.Proxy(free_port(), server.port)
    proxy.start()
    yield server, proxy
    proxy.stop()
    server.kill()


class Fleet:
    """Two API processes and a robot that speaks to either."""

    def __init__(self, urls: list[str], configs: list[Path], file: Path) -> None:
        self.clients = [httpx.Client(base_url=url, timeout=60) for url in urls]
        self.configs = configs
        self.data = file.read_bytes()
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        self.episode_id = file.stem

    def enrol(self, robot_id: str) -> None:
        code = json.loads(command(self.configs[0], "enrol-code", robot_id, "--json").stdout)["code"]
        body = {"code": code, "robot_id": robot_id, "agent_version": "0.1.0", "hw": "a test"}
        token = self.clients[0].post("/api/v1/robots/enrol", json=body).raise_for_status().json()["token"]
        for client in self.clients:
            client.headers["Authorization"] = f"Bearer {token}"

    def announce(self, at: int) -> httpx.Response:
        words = {"sha256": self.sha256, "episode_id": self.episode_id}
        pairs = ",".join(f"{name} {base64.b64encode(word.encode()).decode()}" for name, word in words.items())
        headers = TUS | {"Upload-Length": str(len(self.data)), "Upload-Metadata": pairs}
        return self.clients[at].post(UPLOADS, headers=headers)

    def send(self, at: int, url: str, offset: int, length: int) -> httpx.Response:
        headers = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
        return self.clients[at].patch(url, headers=headers, content=self.data[offset : offset + length])

    def offset(self, at: int, url: str) -> int:
        answer = self.clients[at].head(url, headers=TUS)
        return int(answer.raise_for_status().headers["upload-offset"])

    def finish(self, at: int, url: str, wait_until) -> None:
        """As the courier does: ask, send on, and try again while the server says it cannot now."""

        def done() -> bool:
            head = self.clients[at].head(url, headers=TUS)
            if not head.is_success:
                assert head.status_code in {404, 423, 503}, head.text
                return self.receipt(at) is not None
            offset = int(head.headers["upload-offset"])
            if offset < len(self.data):
                self.send(at, url, offset, len(self.data))
            return self.receipt(at) is not None

        wait_until(done, 120)

    def receipt(self, at: int) -> dict | None:
        answer = self.clients[at].get(f"/api/v1/robot/receipts/{self.sha256}")
        return answer.json() if answer.is_success else None

    def fsck(self) -> dict:
        return json.loads(command(self.configs[1], "fsck", "--deep", "--json").stdout)

    def episodes(self) -> int:
        return sum("episode stored" in config.with_suffix(".log").read_text() for config in self.configs)


def command(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "lefleet_server", *arguments, "--config", str(config)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def fleet(server_settings, own_s3, tmp_path, free_port, wait_until, episode_file) -> Iterator[Fleet]:
    server, proxy = own_s3
    with contextlib.ExitStack() as stack:
        configs, urls = [], []
        for number in range(2):
            settings = server_settings | server.settings("fleet", proxy.address)
            settings |= {"state_dir": str(tmp_path / f"api-{number}"), "port": free_port(), "store_timeout_s": 3}
            Settings(**settings)
            config = tmp_path / f"api-{number}.yml"
            config.write_text(yaml.safe_dump(settings))
            with config.with_suffix(".log").open("wb") as log:
                words = [sys.executable, "-m", "lefleet_server", "serve", "--config", str(config)]
                process = subprocess.Popen(words, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.kill)
            configs.append(config)
            urls.append(f"http://127.0.0.1:{settings['port']}")
        made = Fleet(urls, configs, episode_file(ticks=80))
        for client in made.clients:
            stack.callback(client.close)
            wait_until(lambda client=client: ready(client) == 200, 120)
        made.enrol("robot-1")
        yield made


def ready(client: httpx.Client) -> int:
    try:
        return client.get("/readyz").status_code
    except httpx.TransportError:
        return 0


def test_what_vanishes_at_one_api_process_goes_on_at_the_other(fleet, wait_until):
    url = fleet.announce(0).headers["location"]
    with pytest.raises(httpx.TransportError):
        headers = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        headers["Content-Length"] = str(len(fleet.data))
        fleet.clients[0].patch(url, headers=headers, content=vanishing(fleet.data[:PIECE_BYTES]))
    wait_until(lambda: fleet.offset(1, url) == PIECE_BYTES)
    fleet.finish(1, url, wait_until)
    assert fleet.receipt(0) == fleet.receipt(1)
    assert fleet.fsck() == {"clean": True, "remaining": 0, "counts": {}, "findings": []}


def vanishing(data: bytes) -> Iterator[bytes]:
    yield data
    raise httpx.ReadError("the robot's network went away")


async def test_one_robot_that_sends_at_both_at_once_gets_one_episode(fleet, wait_until):
    url = fleet.announce(0).headers["location"]
    assert fleet.announce(1).headers["location"] == url
    both = (asyncio.to_thread(fleet.send, at, url, 0, len(fleet.data)) for at in (0, 1))
    assert {answer.status_code for answer in await asyncio.gather(*both)} <= {204, 404, 409, 423}
    fleet.finish(0, url, wait_until)
    assert fleet.episodes() == 1
    assert fleet.fsck()["clean"]


def test_a_second_robot_that_sends_the_same_bytes_is_refused_and_changes_nothing(fleet, wait_until):
    fleet.finish(0, fleet.announce(0).headers["location"], wait_until)
    fleet.enrol("robot-2")
    answer = fleet.announce(1)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "robot_id")
    assert fleet.fsck()["clean"]


def test_a_store_that_is_killed_in_the_middle_keeps_what_was_acknowledged(fleet, own_s3, wait_until):
    server, _ = own_s3
    url = fleet.announce(0).headers["location"]
    assert fleet.send(0, url, 0, PIECE_BYTES).status_code == 204
    server.kill()
    answer = fleet.send(0, url, PIECE_BYTES, len(fleet.data))
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/store-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    wait_until(lambda: ready(fleet.clients[0]) == 503, 60)
    assert fleet.offset(1, url) == PIECE_BYTES
    server.start()
    wait_until(lambda: ready(fleet.clients[0]) == 200, 60)
    fleet.finish(1, url, wait_until)
    assert fleet.fsck()["clean"]


@pytest.mark.parametrize("mode", ["refuse", "stall"])
def test_a_store_that_refuses_or_stalls_is_told_and_gone_on_from(mode, fleet, own_s3, wait_until):
    _, proxy = own_s3
    url = fleet.announce(0).headers["location"]
    assert fleet.send(0, url, 0, PIECE_BYTES).status_code == 204
    proxy.mode = mode
    answer = fleet.send(0, url, PIECE_BYTES, len(fleet.data))
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    wait_until(lambda: ready(fleet.clients[1]) == 503, 60)
    refused = command(fleet.configs[0], "fsck", "--json")
    assert (refused.returncode, refused.stdout) == (1, ""), "nothing is judged by a store that does not answer"
    proxy.mode = "pass"
    fleet.finish(1, url, wait_until)
    assert fleet.fsck()["clean"]


def test_wrong_credentials_are_said_and_told_nowhere(fleet, own_s3):
    server, _ = own_s3
    secret = f"wrong-{uuid.uuid4().hex}"
    server.credentials.write_text(f"access_key_id: lefleet-tests\nsecret_access_key: {secret}\n")
    refused = command(fleet.configs[0], "fsck")
    assert refused.returncode == 1
    assert "refuses these credentials" in refused.stderr
    assert secret not in refused.stderr + refused.stdout
