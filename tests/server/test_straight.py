"""Upload bodies straight from the socket, at the real server: every byte arrives, whatever the client does."""

import asyncio
import hashlib
import threading
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn

from lefleet_server import straight
from lefleet_server.app import create_app
from lefleet_server.protocol import bounded

IDLE_S = 0.5
PATCH = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def taken(monkeypatch):
    """How many bodies came straight."""
    found = []
    real = straight._take

    def take(*arguments):
        blocks = real(*arguments)
        found.append(blocks is not None)
        return blocks

    monkeypatch.setattr(straight, "_take", take)
    return found


@pytest.fixture(params=["uvloop", "asyncio"])
async def port(settings, request):
    """Of another process' worth of server, in a thread: `serve` runs on uvloop, and each loop has ways of its own."""
    app = create_app(settings.model_copy(update={"request_idle_s": IDLE_S}), dashboard=False)
    config = uvicorn.Config(app, port=0, loop=request.param, http=bounded(5), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await asyncio.to_thread(thread.join)


@pytest.fixture
async def client(port, robot):
    headers = {"Authorization": f"Bearer {robot.token}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as made:
        yield made


@pytest.fixture
def announced(robot, announce_headers):
    """Where to send these bytes."""

    async def announce(data: bytes, episode_id: str) -> str:
        return (await robot.announce(data, episode_id)).headers["location"]

    return announce


def patch(url: str, token: str, length: int, offset: int = 0, more: str = "") -> bytes:
    return (
        f"PATCH {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\nContent-Length: {length}\r\n"
        f"{more}\r\n"
    ).encode()


@asynccontextmanager
async def raw(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    await reader.readexactly(int(headers.get("content-length", 0)))
    return int(head[0].split()[1]), headers


async def test_a_file_of_many_blocks_arrives_whole(client, robot, announced, episode_file, services, taken):
    path = episode_file(ticks=1500)
    data = path.read_bytes()
    assert len(data) > 3 << 20
    url = await announced(data, path.stem)
    for begin, end in ((0, 2_500_000), (2_500_000, len(data))):
        headers = {
            "Tus-Resumable": "1.0.0",
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(begin),
        }
        sent = await client.patch(url, headers=headers, content=data[begin:end])
        assert (sent.status_code, sent.headers["upload-offset"]) == (204, str(end))
    assert taken == [True, True]
    digest = hashlib.sha256(data).hexdigest()
    assert (await client.get(f"/api/v1/robot/receipts/{digest}")).json()["bytes"] == len(data)
    async with services.blobs.local(digest) as stored:
        assert stored.read_bytes() == data


async def test_a_flipped_bit_is_found(port, robot, announced, episode_file):
    path = episode_file(ticks=600)
    data = bytearray(path.read_bytes())
    url = await announced(bytes(data), path.stem)
    data[len(data) // 2] ^= 1
    async with raw(port) as (reader, writer):
        writer.write(patch(url, robot.token, len(data)) + data)
        assert (await answer(reader))[0] == 422


async def test_bytes_that_trickle_in_and_requests_that_follow_at_once_are_told_apart(
    port, robot, announced, episode_file, taken
):
    path = episode_file()
    data = path.read_bytes()
    url = await announced(data, path.stem)
    half = len(data) // 2
    async with raw(port) as (reader, writer):
        writer.write(patch(url, robot.token, half) + data[:10])
        while not taken:  # noqa: ASYNC110 - a list
            await asyncio.sleep(0.01)
        for at in range(10, half, half // 7):
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(data[at : min(at + half // 7, half)])
        # The next request comes along with the last bytes of this one's body.
        writer.write(patch(url, robot.token, len(data) - half, half) + data[half:])
        status, headers = await answer(reader)
        assert (status, headers["upload-offset"]) == (204, str(half))
        status, headers = await answer(reader)
        assert (status, headers["upload-offset"]) == (204, str(len(data)))
    assert taken[0]


async def test_what_a_vanished_client_sent_is_kept(port, client, robot, announced, episode_file):
    path = episode_file(ticks=1500)
    data = path.read_bytes()
    url = await announced(data, path.stem)
    sent = 2_345_678
    async with raw(port) as (_, writer):
        writer.write(patch(url, robot.token, len(data)) + data[:sent])
        await writer.drain()
    head = {"Tus-Resumable": "1.0.0"}
    for _ in range(100):
        seen = await client.head(url, headers=head)
        if seen.headers["upload-offset"] == str(sent):
            break
        await asyncio.sleep(0.1)
    assert seen.headers["upload-offset"] == str(sent)
    async with raw(port) as (reader, writer):
        writer.write(patch(url, robot.token, len(data) - sent, sent) + data[sent:])
        assert (await answer(reader))[0] == 204


async def test_a_client_that_stops_coming_is_answered_with_what_arrived(port, robot, announced, episode_file):
    path = episode_file()
    data = path.read_bytes()
    url = await announced(data, path.stem)
    async with raw(port) as (reader, writer):
        writer.write(patch(url, robot.token, len(data)) + data[:5000])
        status, headers = await answer(reader)
    assert (status, headers["upload-offset"]) == (204, "5000")


async def test_a_body_that_is_refused_leaves_the_connection_usable(port, robot, announced, episode_file):
    path = episode_file(ticks=600)
    data = path.read_bytes()
    url = await announced(data, path.stem)
    async with raw(port) as (reader, writer):
        for length, offset, status in ((len(data), 7, 409), (len(data) + 3_000_000, 0, 413)):
            writer.write(patch(url, robot.token, length, offset) + bytes(length))
            assert (await answer(reader))[0] == status
        seen = int((await answer_to_head(reader, writer, url, robot.token))["upload-offset"])
        writer.write(patch(url, robot.token, len(data) - seen, seen) + data[seen:])
        assert (await answer(reader))[0] in {204, 422}


async def answer_to_head(reader, writer, url, token):
    writer.write(
        f"HEAD {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    )
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().split("\r\n")
    return dict(line.lower().split(": ", 1) for line in head[1:] if line)


@pytest.mark.parametrize("more", ["Expect: 100-continue\r\n", ""])
async def test_who_waits_for_leave_to_send_gets_it(port, robot, announced, episode_file, taken, more):
    path = episode_file(ticks=600)
    data = path.read_bytes()
    url = await announced(data, path.stem)
    async with raw(port) as (reader, writer):
        writer.write(patch(url, robot.token, len(data), more=more))
        await writer.drain()
        if more:
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(data)
        assert (await answer(reader))[0] == 204
    assert taken == ([] if more else [True])


async def test_many_at_once_do_not_mix(port, enrol, episode_file, announce_headers, services):
    robots = [await enrol(f"many-{number}") for number in range(6)]
    paths = [episode_file(ticks=400 + 100 * number, robot_id=robot.id) for number, robot in enumerate(robots)]

    async def one(robot, path) -> int:
        data = path.read_bytes()
        url = (await robot.announce(data, path.stem)).headers["location"]
        async with raw(port) as (reader, writer):
            writer.write(patch(url, robot.token, len(data)))
            for at in range(0, len(data), 300_000):
                writer.write(data[at : at + 300_000])
                await writer.drain()
            return (await answer(reader))[0]

    assert await asyncio.gather(*(one(*each) for each in zip(robots, paths, strict=True))) == [204] * 6
    for path in paths:
        async with services.blobs.local(hashlib.sha256(path.read_bytes()).hexdigest()) as stored:
            assert stored.read_bytes() == path.read_bytes()
    for robot in robots:
        await robot.http.aclose()
