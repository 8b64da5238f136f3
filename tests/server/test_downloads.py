"""Files that the proxy before the server sends, or the object store: the same as the server's, to the same people."""

import dataclasses
import hashlib
from datetime import datetime
from http.client import HTTPConnection
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import update

from lefleet_server.accounts.models import Role
from lefleet_server.app import create_app
from lefleet_server.episodes.models import Episode
from lefleet_server.storage import LocalBlobs, key

TAKES = {"X-Sendfile-Type": "X-Accel-Redirect"}
API = "/api/v1"


class Unread(LocalBlobs):
    """A store whose bytes this server must not be the one to send."""

    def stream(self, sha256: str, start: int = 0, length: int | None = None):
        raise AssertionError("the server reads a file that the proxy should send")


@pytest.fixture
def store() -> str:
    return "local"


@pytest.fixture
def settings(settings, store):
    return settings.model_copy(update={"downloads_by": "proxy" if store == "local" else "store"})


@pytest.fixture
def served(settings, services, run_app) -> int:
    """Port of a real server that sends no byte of a file itself."""
    app = create_app(settings, dashboard=False)
    app.state.services = dataclasses.replace(app.state.services, blobs=Unread(settings.blobs_dir))
    run_app(app, settings.port)
    return settings.port


@pytest.fixture(params=["caddy", "nginx"])
def proxy(request, proxies) -> str:
    if proxies.find(request.param) is None:
        pytest.skip(f"{request.param} is missing; install it with `python3 ansible/demo/packages.py test`")
    return request.param


@pytest.fixture
def proxied(proxy, served, settings, proxies, tmp_path) -> str:
    """Address of a real proxy before the server."""
    with proxies.running(proxy, tmp_path / "proxy", served, settings.blobs_dir) as (url, _):
        yield url


@pytest.fixture
async def through(proxied, operator) -> httpx.AsyncClient:
    """The operator, by way of the proxy."""
    async with httpx.AsyncClient(base_url=proxied, cookies=dict(operator.cookies)) as client:
        yield client


@pytest.fixture
async def episode(robot, episode_file):
    path = episode_file(ticks=400)
    assert (await robot.upload(path)).is_success
    return path


def of(path) -> str:
    return f"{API}/episodes/{path.stem}/file"


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def said(answer: httpx.Response) -> dict[str, str]:
    """The headers that tell a caller anything, without those of the connection."""
    # That parts can be asked for, a part says by itself: nginx leaves the word out of it.
    own = {"accept-ranges"} if answer.status_code == 206 else set()
    own |= {"date", "server", "connection", "x-request-id", "via", "vary", "keep-alive", "transfer-encoding"}
    return {name: value for name, value in answer.headers.items() if name not in own}


def raw(address: str, path: str, **headers: str) -> int:
    """The status of an answer to a path that no client puts right first."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=20)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


async def test_the_proxy_answers_as_the_server_does(through, operator, episode):
    whole, etag = episode.read_bytes(), f'"{digest(episode)}"'
    at = len(whole) // 3
    for asked in (
        {},
        {"Range": f"bytes={at}-"},
        {"Range": f"bytes={at}-{at}", "If-Range": etag},
        {"Range": "bytes=-7"},
        {"Range": f"bytes={at}-", "If-Range": '"another"'},
        {"Range": "bytes=1-2,5-6"},
        {"Range": "lines=1-2"},
        {"Range": f"bytes={len(whole)}-"},
        {"If-None-Match": '"another"', "If-Modified-Since": "Sun, 01 Nov 2037 12:00:00 GMT"},
    ):
        ours = await operator.get(of(episode), headers=asked)
        its = await through.get(of(episode), headers=asked)
        assert (its.status_code, its.content) == (ours.status_code, ours.content), asked
        assert said(its) == said(ours), asked
    assert its.content == whole and its.headers["etag"] == etag
    assert (await through.head(of(episode))).status_code == (await operator.head(of(episode))).status_code == 405


async def test_whoever_may_not_have_it_gets_nothing_from_the_proxy_either(through, proxied, robot, person, episode):
    assert (await through.get(of(episode))).is_success
    async with httpx.AsyncClient(base_url=proxied) as stranger:
        assert (await stranger.get(of(episode))).status_code == 401
        with_robots_word = await stranger.get(of(episode), headers=dict(robot.http.headers))
        assert with_robots_word.status_code in {401, 403}
    viewer = await person(Role.VIEWER)
    async with httpx.AsyncClient(base_url=proxied, cookies=dict(viewer.cookies)) as client:
        assert (await client.get(of(episode))).is_success
        assert (await client.post(f"{API}/logout")).is_success
        client.cookies.update(dict(viewer.cookies))
        assert (await client.get(of(episode))).status_code == 401, "the session has ended"


async def test_a_deleted_episode_is_gone_and_a_quarantined_one_is_there(through, person, services, episode):
    async with services.db.transaction() as session:
        await session.execute(update(Episode).values(quarantined=True))
    assert (await through.get(of(episode))).is_success
    admin = await person(Role.ADMIN)
    deleted = await admin.delete(f"{API}/episodes/{episode.stem}", params={"reason": "a face is in it"})
    assert deleted.is_success, deleted.text
    answer = await through.get(of(episode))
    assert answer.status_code == 410 and answer.headers["content-type"] == "application/problem+json"


async def test_nobody_reaches_the_files_but_by_the_servers_answer(proxied, episode, settings):
    name = key(digest(episode))
    assert (settings.blobs_dir / name).is_file()
    (settings.state_dir / "secret").write_text("not to be had")
    for path in (
        f"/internal/blobs/{name}",
        f"//internal/blobs/{name}",
        f"/internal/blobs/../blobs/{name}",
        f"/internal/blobs/{name[:5]}/",
        "/internal/blobs/../secret",
        "/internal/blobs/..%2fsecret",
        "/internal/blobs/%2e%2e/secret",
        "/api/../internal/blobs/../secret",
        f"{API}/episodes/..%2f..%2fsecret/file",
        f"{API}/episodes/{'.' * 2}/{'.' * 2}/secret",
    ):
        for headers in ({}, {"X_Sendfile_Type": "X-Accel-Redirect", "X_Accel_Redirect": f"/internal/blobs/{name}"}):
            assert raw(proxied, path, **headers) in {400, 401, 404}, path


async def test_an_error_of_the_proxy_is_not_kept_as_the_file_would_be(
    proxy, served, proxies, operator, episode, tmp_path
):
    """It looks in another folder than the server."""
    with proxies.running(proxy, tmp_path / "proxy", served, tmp_path / "elsewhere") as (url, _):
        async with httpx.AsyncClient(base_url=url, cookies=dict(operator.cookies)) as client:
            answer = await client.get(of(episode))
    assert answer.status_code == 404
    if proxy == "caddy":  # nginx keeps the header, and cannot be told otherwise (docker/nginx/lefleet.conf says so)
        assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


async def test_who_comes_without_a_proxy_gets_the_bytes(operator, episode):
    answer = await operator.get(of(episode))
    assert answer.content == episode.read_bytes() and "x-accel-redirect" not in answer.headers
    empty = await operator.get(of(episode), headers=TAKES | {"Range": "bytes=5-"})
    assert empty.content == b""
    assert empty.headers["x-accel-redirect"] == f"/internal/blobs/{key(digest(episode))}"
    assert empty.headers["x-lefleet-range"] == f"bytes=5-{episode.stat().st_size - 1}"


async def test_a_file_that_others_may_not_read_comes_from_the_server(operator, episode, settings):
    (settings.blobs_dir / key(digest(episode))).chmod(0o600)
    assert (await operator.get(of(episode), headers=TAKES)).content == episode.read_bytes()


@pytest.mark.parametrize("store", ["s3", "azure"])
async def test_the_store_gives_the_file_to_whoever_has_the_address(
    operator, connect, episode, store_server, store, settings
):
    assert settings.downloads_by == "store"
    sent = await operator.get(of(episode), headers={"Range": "bytes=5-"})
    assert (sent.status_code, sent.content, sent.headers["cache-control"]) == (307, b"", "no-store")
    assert sent.headers["etag"] == f'"{digest(episode)}"'
    address = sent.headers["location"]
    assert address.startswith(store_server.address)
    assert valid_s(store, address) == settings.download_url_ttl_s
    async with httpx.AsyncClient() as anybody:
        assert (await anybody.get(address)).content == episode.read_bytes()
        part = await anybody.get(address, headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, episode.read_bytes()[5:10])
        other = address.replace(digest(episode), "0" * 64)
        assert (await anybody.get(other)).status_code == 403, "it is the address of this file alone"
    async with connect() as stranger:
        assert (await stranger.get(of(episode))).status_code == 401


def valid_s(store: str, address: str) -> float:
    words = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    if store == "s3":
        return int(words["X-Amz-Expires"])
    return (datetime.fromisoformat(words["se"]) - datetime.fromisoformat(words["st"])).total_seconds()
