"""What keeps other sites' pages away from ours: headers on every page, and no live connection begun elsewhere."""

import httpx
import pytest
from served import PASSWORD

_COMMON = {
    "default-src": "'self'",
    "img-src": "'self' data: blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "style-src": "'self' 'unsafe-inline'",
}
LOGIN = _COMMON | {"script-src": "'self'"}
PAGES = _COMMON | {"script-src": "'self' 'unsafe-inline' 'unsafe-eval'"}
OTHERS = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
LIVE = "/_nicegui_ws/socket.io/?EIO=4&transport="
_HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture(scope="module")
def ada(fleet):
    """Logged in, and no browser: what it sends is what a test says."""
    with httpx.Client(base_url=fleet.url, timeout=30) as client:
        client.post("/api/v1/login", json={"username": "ada", "password": PASSWORD}).raise_for_status()
        yield client


def policy(answer):
    directives = (each.strip().partition(" ") for each in answer.headers["content-security-policy"].split(";"))
    return {name: value for name, _, value in directives}


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("/login", 200, LOGIN),
        ("/", 200, PAGES),
        ("/episodes", 200, PAGES),
        ("/robots/robot-1", 200, PAGES),
        ("/no-such-page", 404, PAGES),
    ],
)
def test_a_page_loads_from_here_only_and_stands_in_nobodys_frame(ada, path, status, expected):
    answer = ada.get(path)
    assert answer.status_code == status
    assert policy(answer) == expected
    assert {name: answer.headers.get(name) for name in OTHERS} == OTHERS
    assert "camera=()" in answer.headers["permissions-policy"]


def handshake(client, **headers):
    """The status that answers a browser which wants a WebSocket: 101 opens it."""
    with client.stream("GET", f"{LIVE}websocket", headers=_HANDSHAKE | headers) as answer:
        return answer.status_code


def test_our_own_page_opens_a_live_connection(fleet, ada):
    assert handshake(ada, Origin=fleet.url) == 101
    assert handshake(ada, Origin=fleet.url, **{"Sec-Fetch-Site": "same-origin"}) == 101
    # A poll of the same origin carries no Origin, and at an address without TLS no Sec-Fetch-Site.
    assert ada.get(f"{LIVE}polling").status_code == 200
    assert ada.get(f"{LIVE}polling", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.org"},
        {"Origin": "http://127.0.0.1:1"},  # the same machine, another program's pages
        {"Origin": "null"},
        {"Origin": "https://example.org", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://other.example.org", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_opens_none_with_a_persons_cookie(ada, headers):
    assert handshake(ada, **headers) == 403
    assert ada.post(f"{LIVE}polling", content="40", headers=headers).status_code == 403
    assert ada.get(f"{LIVE}polling", headers=headers).status_code == 403


def test_nobody_unknown_opens_one(fleet):
    with httpx.Client(base_url=fleet.url, timeout=30) as unknown:
        assert handshake(unknown, Origin=fleet.url) == 403
