"""Downloads that the server sends on to its object store: resumed there, checked here, and the token stays here."""

import asyncio
import uuid

import pytest


@pytest.fixture(scope="module")
def proxy(s3, object_stores, free_port):
    """What everybody takes for the store, so that a test sees what it is asked."""
    made = object_stores.Proxy(free_port(), s3.port)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server_settings(server_settings, s3, proxy) -> dict:
    return server_settings | s3.settings(f"cli/{uuid.uuid4().hex}", proxy.address) | {"downloads_by": "store"}


@pytest.fixture
async def episode(robot, episode_file):
    path = episode_file(ticks=400)
    assert (await robot.upload(path)).is_success
    return path


async def test_a_download_goes_on_in_the_store_and_the_store_hears_no_token(with_token, proxy, episode, tmp_path):
    script = await with_token()
    whole, got = episode.read_bytes(), tmp_path / "got"
    got.mkdir()
    half = len(whole) // 2
    (got / f"robot-1-{episode.stem}.h5.part").write_bytes(whole[:half])
    proxy.asked.clear()
    done = await script.ok("episodes", "download", episode.stem, "--to", got, "--json")
    assert (done.item["received"], done.item["state"]) == (len(whole) - half, "downloaded")
    assert (got / f"robot-1-{episode.stem}.h5").read_bytes() == whole
    asked = b"".join(proxy.asked).lower()
    assert f"range: bytes={half}-".encode() in asked and b"x-amz-signature" in asked
    token = next(tmp_path.glob("token-*")).read_text().strip()
    gets = [head for head in proxy.asked if b"X-Amz-Expires" in head.partition(b"\r\n")[0]]
    assert len(gets) == 1 and b"authorization" not in gets[0].lower() and b"cookie" not in gets[0].lower()
    assert token.lower().encode() not in asked


async def test_a_part_of_something_else_is_thrown_away(with_token, episode, tmp_path):
    script = await with_token()
    (tmp_path / f"robot-1-{episode.stem}.h5.part").write_bytes(b"x" * 1000)
    await script.ok("episodes", "download", episode.stem, "--to", tmp_path)
    assert (tmp_path / f"robot-1-{episode.stem}.h5").read_bytes() == episode.read_bytes()


async def test_an_address_that_is_none_of_a_store_is_not_followed(stranger, free_port, tmp_path):
    """A portal before the server answers everything with its own page."""

    async def portal(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://portal.example/login\r\n")
        writer.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(portal, "127.0.0.1", 0)
    token = tmp_path / "token"
    token.write_text("lft_something\n")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    somebody = stranger(LEFLEET_URL=url, LEFLEET_TOKEN_FILE=str(token))
    done = await somebody("episodes", "video", "0" * 32, "front", "--to", tmp_path / "video.mp4")
    server.close()
    assert done.status == 1 and "sends elsewhere (http://portal.example/login)" in done.err
