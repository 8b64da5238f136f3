"""The API on a database of its own, with people, robots and episode files."""

import asyncio
import base64
import hashlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import Role
from lefleet_server.app import create_app
from lefleet_server.config import Settings
from lefleet_server.robots import service as robots
from lefleet_server.services import Services

sys.path.append(str(Path(__file__).parent))  # behind the others: tests/browser has files of the same names

TUS = {"Tus-Resumable": "1.0.0"}
PATCH = TUS | {"Content-Type": "application/offset+octet-stream"}
UPLOADS = "/api/v1/robot/uploads"


@pytest.fixture
def store() -> str:
    """Which store the server has; tests that hold for others too say which."""
    return "local"


@pytest.fixture
def prefix() -> str:
    return f"fleet/{uuid.uuid4().hex}"


@pytest.fixture
def store_server(store: str, request: pytest.FixtureRequest) -> Any:
    """The object store of that name (tests/object_stores.py); None for the local store."""
    return None if store == "local" else request.getfixturevalue(store)


@pytest.fixture
def settings(server_settings: dict, store_server: Any, prefix: str) -> Settings:
    return Settings(**server_settings | (store_server.settings(prefix) if store_server else {}))


@pytest.fixture
def stored(settings: Settings, store_server: Any, prefix: str) -> Callable[[str], list[Any]]:
    """`stored("blobs")`, `stored("incoming")`: what is in that part of the store, as Paths or much like them."""

    def files(part: str) -> list[Any]:
        if store_server:
            return store_server.stored(prefix, part)
        return [path for path in (settings.store_dir / part).rglob("*") if path.is_file()]

    return files


@pytest.fixture
def age(store_server: Any) -> Callable[[Path], None]:
    """Makes a file of the store look old, where there is a way."""
    return store_server.age if store_server else lambda path: os.utime(path, (0, 0))


@pytest.fixture
async def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    """Without what it sweeps up each hour and at its start: a test would meet it or not, as it happens."""

    async def never(_: Services) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("lefleet_server.app._sweep", never)
    app = create_app(settings, dashboard=False)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def services(app: FastAPI) -> Services:
    return app.state.services


@pytest.fixture
def connect(app: FastAPI) -> Callable[..., httpx.AsyncClient]:
    def make(address: str = "127.0.0.1", **options: object) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1234))
        return httpx.AsyncClient(transport=transport, base_url="http://server", **options)

    return make


@pytest.fixture
async def anonymous(connect) -> AsyncIterator[httpx.AsyncClient]:
    async with connect() as client:
        yield client


@pytest.fixture
def person(services: Services, connect) -> Callable:
    """Logs a new person of a role in; returns their client."""

    async def make(role: Role = Role.OPERATOR, name: str | None = None) -> httpx.AsyncClient:
        username = name or f"{role.value}-{uuid.uuid4().hex[:6]}"
        async with services.db.transaction() as session:
            await accounts.put_user(session, username, role, None, "test")
            code = await accounts.create_login_code(session, username, 60, "test")
        client = connect()
        (await client.post("/api/v1/login", json={"code": code})).raise_for_status()
        return client

    return make


@pytest.fixture
async def operator(person) -> AsyncIterator[httpx.AsyncClient]:
    client = await person()
    yield client
    await client.aclose()


@dataclass
class RobotClient:
    id: str
    token: str
    http: httpx.AsyncClient

    async def heartbeat(self, **changes: object) -> httpx.Response:
        return await self.http.post("/api/v1/robot/heartbeat", json={"state": "running"} | changes)

    async def announce(self, data: bytes, episode_id: str, **changes: str) -> httpx.Response:
        return await self.http.post(UPLOADS, headers=announcement(data, episode_id) | changes)

    async def send(self, url: str, data: bytes, offset: int = 0) -> httpx.Response:
        return await self.http.patch(url, headers=PATCH | {"Upload-Offset": str(offset)}, content=data)

    async def upload(self, path: Path) -> httpx.Response:
        """The whole file at once; returns the last answer."""
        data = path.read_bytes()
        created = await self.announce(data, path.stem)
        return await self.send(created.headers["location"], data) if created.is_success else created


def announcement(data: bytes, episode_id: str, sha256: str | None = None) -> dict[str, str]:
    words = {"sha256": sha256 or hashlib.sha256(data).hexdigest(), "episode_id": episode_id}
    metadata = ",".join(f"{name} {base64.b64encode(word.encode()).decode()}" for name, word in words.items())
    return TUS | {"Upload-Length": str(len(data)), "Upload-Metadata": metadata}


@pytest.fixture
def announce_headers() -> Callable[..., dict[str, str]]:
    return announcement


@pytest.fixture
def enrol(services: Services, connect) -> Callable:
    """Enrols a robot through the API; returns its client."""

    async def make(robot_id: str, site: str = "") -> RobotClient:
        async with services.db.transaction() as session:
            code = await robots.create_enrolment_code(session, robot_id, site, 60, "test")
        async with connect() as client:
            body = {"code": code, "robot_id": robot_id, "agent_version": "0.1.0", "hw": "a test"}
            answer = await client.post("/api/v1/robots/enrol", json=body)
        token = answer.raise_for_status().json()["token"]
        return RobotClient(robot_id, token, connect(headers={"Authorization": f"Bearer {token}"}))

    return make


@pytest.fixture
async def robot(enrol) -> AsyncIterator[RobotClient]:
    made = await enrol("robot-1")
    yield made
    await made.http.aclose()


@pytest.fixture
def episode_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes an episode file of format 1 with plain h5py; `edit(file)` may spoil it, keywords replace attributes."""

    def write(edit: Callable[[h5py.File], None] | None = None, ticks: int = 12, **attributes: object) -> Path:
        episode_id = str(attributes.setdefault("episode_id", uuid.uuid4().hex))
        path = tmp_path / f"{episode_id}.h5"
        with h5py.File(path, "w") as file:
            _fill(file, ticks)
            file.attrs.update(_attributes(ticks) | attributes)
            if edit:
                edit(file)
        return path

    return write


def jpeg(camera: int, tick: int) -> bytes:
    """A picture of noise whose bytes differ for each camera and tick."""
    import cv2

    pixels = np.random.default_rng(1000 * camera + tick).integers(0, 255, (24, 32, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def _fill(file: h5py.File, ticks: int) -> None:
    rng = np.random.default_rng(1)
    times = 10**9 + np.arange(ticks) * 33_333_333
    for name in ("observations/qpos", "action", "action_requested"):
        file[name] = rng.normal(size=(ticks, 6)).astype("<f4")
    for name in ("monotonic_ns", "wall_ns", "lateness_ns", "inference_ns"):
        file[f"time/{name}"] = times.astype("<i8")
    for number, camera in enumerate(("front", "wrist")):
        pictures = [jpeg(number, tick) for tick in range(ticks)]
        rows = np.zeros((ticks, max(map(len, pictures))), np.uint8)
        for row, picture in zip(rows, pictures, strict=True):
            row[: len(picture)] = np.frombuffer(picture, np.uint8)
        file[f"observations/images/{camera}"] = rows
        file[f"observations/image_bytes/{camera}"] = np.array([len(p) for p in pictures], "<u4")
        file[f"observations/image_seq/{camera}"] = np.arange(ticks, dtype="<u4")
        file[f"observations/image_monotonic_ns/{camera}"] = (times - 5_000_000).astype("<i8")
        file[f"observations/image_wall_ns/{camera}"] = times.astype("<i8")


def _attributes(ticks: int) -> dict[str, object]:
    return {
        "lefleet_format": "1",
        "sim": True,
        "compress": True,
        "robot_id": "robot-1",
        "robot_type": "so101_sim",
        "joint_names": ["pan", "lift", "elbow", "flex", "roll", "gripper"],
        "joint_units": ["deg"] * 5 + ["percent"],
        "cameras": ["front", "wrist"],
        "camera_fingerprints": json.dumps({"front": "f0", "wrist": "w0"}),
        "calibration_fingerprint": "c0",
        "task": "lift the block",
        "policy_repo": "lefleet/act",
        "policy_commit": "c" * 40,
        "policy_digest": "d" * 64,
        "policy_type": "act",
        "policy_files": json.dumps({"config.json": "0" * 64}),
        "agent_version": "0.1.0",
        "fps": 30.0,
        "control_hz_held": 29.97,
        "started_wall_ns": 1_780_000_000 * 10**9,
        "ended_wall_ns": 1_780_000_010 * 10**9,
        "outcome": "success",
        "interrupted": False,
        "end_reason": "solved",
        "frames": ticks,
        "frames_dropped": 0,
        "seed": 7,
    }
