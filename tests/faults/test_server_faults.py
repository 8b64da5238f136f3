"""`kill -9` of the server while it receives: what has a receipt is there, and what was under way goes on."""

import asyncio
import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import h5py
import httpx
import numpy as np
import pytest
import yaml

pytestmark = pytest.mark.faults

TUS = {"Tus-Resumable": "1.0.0"}
UPLOADS = "/api/v1/robot/uploads"


@pytest.fixture
def server(server_settings, tmp_path, wait_until):
    """A real server process that a test may kill and start again."""
    config = tmp_path / "server.yml"
    config.write_text(yaml.safe_dump(server_settings))
    server = Server(config, f"http://127.0.0.1:{server_settings['port']}", tmp_path / "server.log", wait_until)
    server.start()
    yield server
    server.kill()


class Server:
    def __init__(self, config: Path, base: str, log: Path, wait_until) -> None:
        self.config, self.base, self._log, self._wait_until = config, base, log, wait_until

    def start(self) -> None:
        # Without the dashboard: it plays no part here and doubles the time of a start.
        program = (
            "import sys, uvicorn; from pathlib import Path; from lefleet_server.config import load;"
            "from lefleet_server.app import create_app; s = load(Path(sys.argv[1]));"
            "uvicorn.run(create_app(s, dashboard=False), port=s.port, log_level='warning')"
        )
        with self._log.open("ab") as log:
            command = [sys.executable, "-c", program, str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait_until(self._ready, 60)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def run(self, *arguments: str) -> dict:
        command = [sys.executable, "-m", "lefleet_server", *arguments, "--config", str(self.config), "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            return httpx.get(f"{self.base}/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def robot(server):
    code = server.run("enrol-code", "robot-1")["code"]
    body = {"code": code, "robot_id": "robot-1", "agent_version": "0.1.0"}
    token = httpx.post(f"{server.base}/api/v1/robots/enrol", json=body).raise_for_status().json()["token"]
    with httpx.Client(base_url=server.base, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
        yield client


def write_episode(folder: Path, frames: int) -> Path:
    """An episode file of format 1 without cameras but with a body of some size."""
    episode_id = uuid.uuid4().hex
    rng = np.random.default_rng()
    with h5py.File(folder / f"{episode_id}.h5", "w") as file:
        for name in ("observations/qpos", "action", "action_requested"):
            file[name] = rng.normal(size=(frames, 6)).astype("<f4")
        for name in ("monotonic_ns", "wall_ns", "lateness_ns", "inference_ns"):
            file[f"time/{name}"] = np.arange(frames, dtype="<i8")
        file["ballast"] = rng.integers(0, 256, 6 << 20, np.uint8)
        file.attrs.update(
            {
                "lefleet_format": "1",
                "episode_id": episode_id,
                "robot_id": "robot-1",
                "joint_names": list("abcdef"),
                "joint_units": ["deg"] * 6,
                "outcome": "success",
                "interrupted": False,
                "frames": frames,
                "frames_dropped": 0,
                "fps": 30.0,
                "control_hz_held": 30.0,
                "started_wall_ns": time.time_ns(),
                "ended_wall_ns": time.time_ns(),
            }
        )
        file.attrs["cameras"] = np.array([], h5py.string_dtype())
    return folder / f"{episode_id}.h5"


def announce(robot: httpx.Client, path: Path, data: bytes) -> httpx.Response:
    words = {"sha256": hashlib.sha256(data).hexdigest(), "episode_id": path.stem}
    metadata = ",".join(f"{name} {base64.b64encode(word.encode()).decode()}" for name, word in words.items())
    return robot.post(UPLOADS, headers=TUS | {"Upload-Length": str(len(data)), "Upload-Metadata": metadata})


def patch(robot: httpx.Client, url: str, pieces, at: int) -> httpx.Response:
    headers = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(at)}
    return robot.patch(url, headers=headers, content=pieces)


def deliver(robot: httpx.Client, path: Path, data: bytes) -> dict:
    """What a courier does until it has the receipt."""
    digest = hashlib.sha256(data).hexdigest()
    for _ in range(50):
        found = robot.get(f"/api/v1/robot/receipts/{digest}")
        if found.status_code == 200:
            return found.json()
        created = announce(robot, path, data)
        if created.status_code == 201:
            at = int(created.headers["upload-offset"])
            patch(robot, created.headers["location"], data[at:], at)
        time.sleep(0.05)
    pytest.fail("no receipt after 50 tries")


def test_killed_while_receiving_the_server_goes_on_at_what_reached_the_disk(server, robot, tmp_path):
    path = write_episode(tmp_path, 100)
    data = path.read_bytes()
    url = announce(robot, path, data).headers["location"]

    def then_the_server_dies():
        yield data[: 3 << 20]
        time.sleep(0.3)
        server.kill()
        yield data[3 << 20 :]

    with pytest.raises(httpx.TransportError):
        patch(robot, url, then_the_server_dies(), 0)
    server.start()
    offset = int(robot.head(url, headers=TUS).headers["upload-offset"])
    assert 0 < offset <= len(data)
    assert patch(robot, url, data[offset:], offset).status_code == 204
    assert deliver(robot, path, data)["bytes"] == len(data)


def test_killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_is_stored_twice(
    server, robot, tmp_path, server_settings, wait_until
):
    episodes = [(path, path.read_bytes()) for path in (write_episode(tmp_path, 50 + n) for n in range(6))]
    rng = random.Random(4)  # noqa: S311 - moments, not secrets
    receipts = {}

    async def kill_sometime() -> None:
        await asyncio.sleep(rng.uniform(0.02, 0.6))
        await asyncio.to_thread(server.kill)

    def attempt(path: Path, data: bytes) -> None:
        try:
            receipts[path] = deliver(robot, path, data)
        except httpx.TransportError:
            assert path not in receipts

    async def round_() -> None:
        waiting = [episode for episode in episodes if episode[0] not in receipts]
        await asyncio.gather(kill_sometime(), *(asyncio.to_thread(attempt, *episode) for episode in waiting[:1]))

    for _ in range(5):
        asyncio.run(round_())
        server.start()
    for path, data in episodes:
        first = receipts.get(path)
        again = deliver(robot, path, data)
        assert first is None or first == again
    state = Path(server_settings["state_dir"])
    stored = [path for path in (state / "blobs").rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in stored) == sorted(data for _, data in episodes)
    # A kill between a file and its row leaves an empty file: the sweep of the next start removes it once it is old.
    server.kill()
    for stray in (state / "incoming").iterdir():
        os.utime(stray, (1, 1))
    server.start()
    wait_until(lambda: not list((state / "incoming").iterdir()))
