"""The real server by its own commands, on a database of its own, and Debian's Chromium to look at it."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote

import asyncpg
import httpx
import pytest
import yaml
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import Role
from lefleet_server.config import Settings
from lefleet_server.db import Database
from lefleet_server.robots import service as robots

sys.path.insert(0, str(Path(__file__).parent))

import drawn_episode
import house as houses
from drawn_episode import Drawing
from robot_client import RobotClient

CHROMIUM = Path("/usr/bin/chromium")
OUTPUT = Path(__file__).parents[1] / "output"
PASSWORD = "a long enough password"
EPISODES = 23
_START_S = 60
_FLAGS = [
    "--no-sandbox",  # tests may run as root, where Chromium has none
    "--enable-unsafe-swiftshader",  # WebGL by the processor: the robot's page draws its arm
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


class Server:
    """One `lefleet-server serve`, as its users run it."""

    def __init__(self, folder: Path, database_url: str, port: int, **more: object) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.settings = {
            "state_dir": str(folder / "state"),
            "database_url": database_url,
            "port": port,
            "min_free_bytes": 0,
            "heartbeat_interval_s": 2,
            "log_format": "console",
        } | more
        self.config = folder / "server.yml"
        self.config.write_text(yaml.safe_dump(self.settings))
        self._log = folder / "log"
        arguments = [sys.executable, "-m", "lefleet_server", "serve", "--config", str(self.config)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log)

    def wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while not self._is_ready():
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def add_people(self) -> None:
        for username, role in (("ada", Role.OPERATOR), ("vic", Role.VIEWER), ("root", Role.ADMIN)):
            self.do(partial(accounts.put_user, username=username, role=role, password=PASSWORD, actor="test"))

    def login_link(self, username: str) -> str:
        code = self.do(partial(accounts.create_login_code, username=username, ttl_s=60, actor="test"))
        return f"{self.url}/login?code={code}"

    def enrol(self, robot_id: str, site: str = "") -> RobotClient:
        code = self.do(
            partial(robots.create_enrolment_code, robot_id=robot_id, site=site, ttl_s=60, actor="test"),
        )
        return RobotClient.enrol(self.url, robot_id, code)

    def do[R](self, work: Callable[[AsyncSession], Awaitable[R]]) -> R:
        """What the commands do, without the seconds a command takes to start."""

        async def transact() -> R:
            db = Database(Settings(**self.settings))
            try:
                async with db.transaction() as session:
                    return await work(session)
            finally:
                await db.close()

        return on_a_thread(transact())

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="session")
def serve(postgres: dict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Starts a server on a new database of the given name."""
    started: list[Server] = []

    def start(name: str, **more: object) -> Server:
        create_database(postgres, name)
        host = quote(postgres["host"], safe="")
        url = f"postgresql://{postgres['user']}:{postgres['password']}@/{name}?host={host}"
        server = Server(tmp_path_factory.mktemp(name), url, free_port(), **more)
        started.append(server)
        server.add_people()
        server.wait()
        return server

    yield start
    for server in started:
        server.stop()


@dataclass(frozen=True)
class Fleet:
    """A server with two robots and more episodes than a page holds."""

    server: Server
    robots: dict[str, RobotClient]
    episodes: list[Drawing] = field(default_factory=list)
    """Newest first."""

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="session")
def fleet(serve: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Read by all tests: they change only what they name."""
    server = serve("browser")
    clients = {name: server.enrol(name) for name in ("robot-1", "robot-2")}
    folder = tmp_path_factory.mktemp("episodes")
    made = Fleet(server, clients, [_drawing(number) for number in range(EPISODES)])
    for drawing in made.episodes:
        path = drawn_episode.write(folder, drawing)
        clients[drawing.robot_id].upload(path)
        path.unlink()
    for number, robot in enumerate(clients.values()):
        for camera in ("front", "wrist"):
            robot.show(camera, drawn_episode.picture(camera, 40, drawn_episode.joints_at(1.5, number)))
        robot.heartbeat()
    yield made
    for robot in clients.values():
        robot.close()


@pytest.fixture(scope="session")
def house(serve: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> houses.House:
    """Read by all tests: they change only what they make."""
    return houses.build(serve("house"), tmp_path_factory.mktemp("house"))


def _drawing(number: int) -> Drawing:
    """The number-th newest: one in five failed, one in seven was interrupted, the last eight had another policy."""
    minutes = 2 + 5 * number  # no whole page within the last hour
    return Drawing(
        robot_id=f"robot-{1 + number % 2}",
        started_wall_ns=time.time_ns() - minutes * 60 * 10**9,
        ticks=120 if number == 0 else 30,
        outcome="failure" if number % 5 == 4 else "success",
        interrupted=number % 7 == 6,
        end_reason="time is up" if number % 5 == 4 else "goal reached",
        policy_repo="lefleet/act-so101-block" if number < 15 else "lefleet/act-so101-first",
        seed=number,
    )


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator:
    if not CHROMIUM.exists():
        pytest.skip(f"NO BROWSER TESTS: {CHROMIUM} is missing; install it with `apt-get install chromium`")
    from playwright.async_api import async_playwright

    OUTPUT.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=_FLAGS)
        yield browser
        await browser.close()


class Viewer:
    """One person's browser. `errors` must be empty at the test's end; a test that provokes one clears it."""

    def __init__(self, page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def log_in(self, username: str = "ada", password: str = PASSWORD) -> None:
        await self.page.goto(f"{self.url}/login")
        await self.page.fill("[name=username]", username)
        await self.page.fill("[name=password]", password)
        await self.page.click("button[type=submit]")

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)
        await self.page.wait_for_function("window.did_handshake === true")

    async def shown_number(self, canvas: str) -> int:
        """The number that drawn_episode wrote into the picture now on a canvas."""
        return await self.page.eval_on_selector(
            canvas,
            """(canvas, [bits, size]) => {
                const pixels = canvas.getContext("2d");
                let number = 0;
                for (let bit = 0; bit < bits; bit++) {
                    if (pixels.getImageData((bit + 0.5) * size, size / 2, 1, 1).data[0] > 127) number += 1 << bit;
                }
                return number;
            }""",
            [drawn_episode.BITS, drawn_episode.SQUARE_PX],
        )

    async def shot(self, name: str) -> None:
        await self.page.screenshot(path=OUTPUT / f"{name}.png")


@pytest.fixture
async def look(browser, request: pytest.FixtureRequest) -> AsyncIterator[Callable]:
    """Opens a browser on a server: `await look(url)`, logged in as ada unless told otherwise."""
    contexts, viewers = [], []

    async def make(url: str, username: str | None = "ada", **options: object) -> Viewer:
        context = await browser.new_context(**{"viewport": {"width": 1440, "height": 900}} | options)
        contexts.append(context)
        viewer = Viewer(await context.new_page(), url)
        viewers.append(viewer)
        if username:
            await viewer.log_in(username)
            await viewer.page.wait_for_url(f"{url}/")
        return viewer

    yield make
    if request.node.stash.get(_FAILED, False):
        for number, viewer in enumerate(viewers):
            await viewer.shot(f"failed-{request.node.name}-{number}")
    for context in contexts:
        await context.close()
    assert [error for viewer in viewers for error in viewer.errors] == []


def create_database(postgres: dict, name: str) -> None:
    """A migrated one."""

    async def create() -> None:
        connection = await asyncpg.connect(**postgres | {"database": "postgres"})
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE lefleet')
        await connection.close()

    on_a_thread(create())


def on_a_thread[R](work: Coroutine[object, object, R]) -> R:
    """Runs it where no event loop is running yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def free_port() -> int:

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
