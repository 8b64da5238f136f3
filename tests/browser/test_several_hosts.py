"""The dashboard of two API hosts behind the balancer: a page stays with its host, and comes back when that dies."""

import hmac
import re

import httpx
import pytest
from robot_client import RobotClient
from served import Server, free_port

NAME = "hosts"
CARD = "[data-robot=robot-1]"
DRAWN_ANEW = "document.body.dataset.drawn === undefined && window.did_handshake === true"
PROVOKED = re.compile(r"WebSocket|ERR_|400|50[23]")
"""What a browser says of a host that died; 400 is another host's answer to the poll of a page it did not draw."""


@pytest.fixture(scope="module")
def servers(serve, tmp_path_factory):
    """Two on one database; each with a folder of its own."""
    first = serve(NAME)
    second = Server(tmp_path_factory.mktemp(NAME), first.settings["database_url"], free_port())
    second.wait()
    yield [first, second]
    second.stop()


@pytest.fixture(scope="module")
def url(servers, proxies, tmp_path_factory):
    if not proxies.find("caddy"):
        pytest.skip("caddy is missing; install it with `python3 ansible/demo/packages.py test`")
    folder = tmp_path_factory.mktemp(NAME) / "balancer"
    with proxies.balancing(folder, free_port(), [server.settings["port"] for server in servers]) as url:
        yield url


@pytest.fixture(scope="module")
def client(servers, url):
    made = RobotClient.enrol(url, "robot-1", servers[0].enrolment_code("robot-1"))
    yield made
    made.close()


@pytest.fixture
def robot(client, wait_until):
    return Robot(client, wait_until)


async def test_every_page_finds_the_host_that_drew_it(robot, url, servers, look):
    robot.says("running")
    viewer = await look(url)
    for path in ("/", "/episodes", "/storage", "/jobs", "/robots/robot-1") * 2:
        await viewer.open(path)
    assert await host_of(viewer, servers) in servers


async def test_people_at_different_hosts_see_the_same(robot, url, servers, look):
    at: dict[str, object] = {}
    for _ in range(20):
        viewer = await look(url)
        at[(await host_of(viewer, servers)).url] = viewer
        if len(at) == len(servers):
            break
    assert len(at) == len(servers), "everybody came to one host"
    for viewer in at.values():
        await viewer.open("/")
    robot.says("resetting")
    for viewer in at.values():
        await viewer.page.locator(CARD).locator("text=Resetting").wait_for(timeout=10_000)


async def test_a_page_stays_while_another_host_dies_and_comes_back_logged_in_when_its_own_does(
    servers, robot, url, look
):
    viewer = await look(url)
    page = viewer.page
    card = page.locator(CARD)
    await viewer.open("/")
    mine = await host_of(viewer, servers)
    [other] = [server for server in servers if server is not mine]
    await page.evaluate("document.body.dataset.drawn = 'before'")
    other.kill()
    robot.says("running")
    await card.locator("text=Running").wait_for(timeout=20_000)
    other.start()
    other.wait()
    assert await page.evaluate("document.body.dataset.drawn") == "before"
    mine.kill()
    try:
        await page.wait_for_function(DRAWN_ANEW, timeout=60_000)
        assert page.url == f"{url}/"
        assert await host_of(viewer, servers) is other
        robot.says("resetting")
        await card.locator("text=Resetting").wait_for(timeout=20_000)
        await viewer.shot("hosts")
    finally:
        mine.start()
        mine.wait()
    viewer.errors[:] = [error for error in viewer.errors if not PROVOKED.search(error)]


class Robot:
    """Its heartbeats are heard: as the courier does, it sends again what a dying host left without an answer."""

    def __init__(self, client, wait_until):
        self._client, self._wait_until = client, wait_until

    def says(self, state):
        def heard():
            try:
                return self._client.heartbeat(state=state)
            except httpx.HTTPError:
                return None

        self._wait_until(heard)


async def host_of(viewer, servers):
    """The one that the balancer's cookie stands for: Caddy signs the host's address with an empty secret."""
    [value] = [each["value"] for each in await viewer.page.context.cookies() if each["name"] == "lefleet_host"]
    signed = {
        hmac.new(b"", server.url.removeprefix("http://").encode(), "sha256").hexdigest(): server for server in servers
    }
    return signed[value]
