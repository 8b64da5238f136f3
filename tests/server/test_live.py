"""Over real sockets: clients that vanish, pieces that overlap, and what a slow upload must not hold."""

import asyncio
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from lefleet_server.app import create_app
from lefleet_server.robots import service as robots


@pytest.fixture
async def live(settings, run_app, services):
    """Address of the real server and a robot's Authorization header; `services` looks into the same database."""
    app = create_app(settings, dashboard=False)
    base = await asyncio.to_thread(run_app, app, settings.port)
    async with services.db.transaction() as session:
        code = await robots.create_enrolment_code(session, "robot-1", "", 60, "test")
    async with httpx.AsyncClient(base_url=base) as client:
        body = {"code": code, "robot_id": "robot-1", "agent_version": "0.1.0"}
        token = (await client.post("/api/v1/robots/enrol", json=body)).raise_for_status().json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def partial_patch(client: httpx.AsyncClient, url: str, offset: int, announced: int, data: bytes) -> socket.socket:
    """Begins a PATCH of `announced` bytes, sends only `data`, and leaves the connection open."""
    base = urlsplit(str(client.base_url))
    connection = socket.create_connection((base.hostname, base.port))
    lines = [
        f"PATCH {url} HTTP/1.1",
        f"Host: {base.netloc}",
        f"Authorization: {client.headers['Authorization']}",
        "Tus-Resumable: 1.0.0",
        "Content-Type: application/offset+octet-stream",
        f"Upload-Offset: {offset}",
        f"Content-Length: {announced}",
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)
    return connection


async def eventually(holds, timeout_s: float = 15) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not await holds():
        assert asyncio.get_running_loop().time() < deadline, "not within the time allowed"
        await asyncio.sleep(0.05)


@pytest.fixture
async def begun(live, episode_file, announce_headers):
    """(url, data) of an announced upload."""
    path = episode_file(ticks=1500)
    data = path.read_bytes()
    created = await live.post("/api/v1/robot/uploads", headers=announce_headers(data, path.stem))
    return created.raise_for_status().headers["location"], data


async def offset(live, url: str) -> int:
    return int((await live.head(url, headers={"Tus-Resumable": "1.0.0"})).headers["upload-offset"])


async def send(live, url: str, data: bytes, at: int) -> httpx.Response:
    headers = {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
        "Upload-Offset": str(at),
    }
    return await live.patch(url, headers=headers, content=data)


async def test_a_client_that_vanishes_keeps_what_arrived_and_resumes(live, begun):
    url, data = begun
    half = len(data) // 2
    connection = await asyncio.to_thread(partial_patch, live, url, 0, len(data), data[:half])
    await asyncio.sleep(0.2)
    connection.close()

    async def all_arrived() -> bool:
        return await offset(live, url) == half

    await eventually(all_arrived)

    async def finished() -> bool:
        answer = await send(live, url, data[half:], half)
        assert answer.status_code in {204, 423}
        return answer.status_code == 204

    await eventually(finished)


async def test_a_second_piece_is_locked_out_while_the_first_is_on_its_way(live, begun):
    url, data = begun
    connection = await asyncio.to_thread(partial_patch, live, url, 0, len(data), data[: 2 << 20])

    async def some_arrived() -> bool:
        return await offset(live, url) > 0

    await eventually(some_arrived)
    assert (await send(live, url, data, 0)).status_code == 423
    await asyncio.to_thread(connection.sendall, data[2 << 20 :])
    answer = await asyncio.to_thread(connection.recv, 100)
    assert answer.startswith(b"HTTP/1.1 204")
    connection.close()


async def test_many_slow_uploads_hold_no_database_connection(live, episode_file, announce_headers, settings):
    connections = []
    for number in range(settings.database_pool_size + 4):
        path = episode_file(seed=number)
        data = path.read_bytes()
        created = await live.post("/api/v1/robot/uploads", headers=announce_headers(data, path.stem))
        url = created.headers["location"]
        connections.append(await asyncio.to_thread(partial_patch, live, url, 0, len(data), data[:100]))
    await asyncio.sleep(0.3)
    answer = await live.post("/api/v1/robot/heartbeat", json={"state": "running"}, timeout=5)
    assert answer.status_code == 200
    for connection in connections:
        connection.close()
