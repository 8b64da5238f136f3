"""What a request may cost: each limit is a problem document with a status of its own."""

import asyncio
import gzip
import socket

import pytest
import uvicorn

from lefleet_server.app import create_app
from lefleet_server.limits import MAX_JSON_DEPTH
from lefleet_server.protocol import MAX_HEAD_BYTES, bounded

LOGIN = "/api/v1/login"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (413, b" " * (2 << 20) + b"{}", JSON),
        (415, gzip.compress(b"{}"), JSON | {"Content-Encoding": "gzip"}),
        (400, b"[" * 100_000, JSON),
        (400, b'{"a":' * (MAX_JSON_DEPTH + 1) + b"1" + b"}" * (MAX_JSON_DEPTH + 1), JSON),
        (422, b'{"a":"' + b"[" * 1000 + b'"}', JSON),
        (431, b"{}", JSON | {"X-Long": "x" * MAX_HEAD_BYTES}),
    ],
    ids=["long", "packed", "broken and deep", "deep", "brackets in text", "long head"],
)
async def test_a_request_that_costs_too_much_is_refused(anonymous, status, body, headers):
    answer = await anonymous.post(LOGIN, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
async def test_json_of_which_no_depth_can_be_told_is_refused(anonymous, encoding):
    """One byte of the character is a quote's, so what follows looks like a string's end and a string's beginning."""
    deep = '["\u0122"' + ",[" * 40 + "]" * 41
    answer = await anonymous.post(LOGIN, content=deep.encode(encoding), headers=JSON)
    assert answer.status_code == 400 and "send it as UTF-8" in answer.json()["detail"]
    plain = await anonymous.post(LOGIN, content='{"code": "\u0122"}'.encode(), headers=JSON)
    assert plain.status_code == 401, "the same character in UTF-8 is looked at"


async def test_every_answer_carries_the_headers_that_browsers_need(connect, settings):
    async with connect() as client:
        headers = (await client.get("/healthz")).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert "strict-transport-security" not in headers
    app = create_app(settings.model_copy(update={"public_url": "https://robots.example"}), dashboard=False)
    assert app.user_middleware[0].kwargs["https"] is True


@pytest.fixture
def slow(settings, wait_until):
    """Port of a server that waits half a second for what does not come."""
    import threading

    app = create_app(settings.model_copy(update={"request_idle_s": 0.5}), dashboard=False)
    config = uvicorn.Config(app, port=settings.port, http=bounded(0.5), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield settings.port
    server.should_exit = True
    thread.join(20)


def talk(port: int, *pieces: bytes) -> bytes:
    """Sends the pieces and reads until the server hangs up or has nothing more to say."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while b"\r\n\r\n" not in answer or b"}" not in answer:
            data = connection.recv(65536)
            if not data:
                break
            answer += data
    return answer


@pytest.mark.parametrize(
    ("status", "pieces"),
    [
        (b"408", [b""]),
        (b"408", [b"GET /healthz HTTP/1.1\r\nHost: a\r\n"]),
        (b"431", [b"GET /healthz HTTP/1.1\r\nX: ", b"x" * (MAX_HEAD_BYTES + 1)]),
        (
            b"408",
            [b"POST /api/v1/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"],
        ),
    ],
    ids=["nothing", "half a head", "endless head", "half a body"],
)
async def test_who_drips_or_floods_is_sent_away(slow, status, pieces):
    answer = await asyncio.to_thread(talk, slow, *pieces)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"application/problem+json" in answer
