"""The real server by its own commands, on a database of its own, and Debian's Chromium to look at it."""

import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import drawn_episode
import house as houses
from drawn_episode import Drawing
from robot_client import RobotClient
from served import PASSWORD, Server, create_database, free_port

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
"""The shell is the same browser without the window around its pages: a fifth less work for the processor."""
OUTPUT = Path(__file__).parents[1] / "output"
EPISODES = 23
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


@contextmanager
def _serving(postgres: dict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(name: str, **settings: object) -> Server:
        create_database(postgres, name)
        host = quote(postgres["host"], safe="")
        url = f"postgresql://{postgres['user']}:{postgres['password']}@/{name}?host={host}"
        server = Server(tmp_path_factory.mktemp(name), url, free_port(), **settings)
        started.append(server)
        server.add_people()
        server.wait()
        return server

    try:
        yield start
    finally:
        for server in started:
            server.stop()


@pytest.fixture(scope="module")
def serve(postgres: dict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts a server on a new database of the given name; further settings as keywords. It ends with the module:
    forty that idle to the end of all tests took half a core."""
    with _serving(postgres, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def serve_all(postgres: dict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """As `serve`, for servers that several modules look at."""
    with _serving(postgres, tmp_path_factory) as start:
        yield start


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
def fleet(serve_all: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Read by all tests: they change only what they name."""
    server = serve_all("browser")
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
def house(serve_all: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[houses.House]:
    """Read by all tests: they change only what they make."""
    made = houses.build(serve_all("house"), tmp_path_factory.mktemp("house"))
    yield made
    made.robot.close()


def _drawing(number: int) -> Drawing:
    """The number-th newest: one in five failed, one in seven was interrupted, one in six had another task; of the last
    eight, of another policy, the last four were of another release."""
    minutes = 2 + 5 * number  # no whole page within the last hour
    return Drawing(
        robot_id=f"robot-{1 + number % 2}",
        started_wall_ns=time.time_ns() - minutes * 60 * 10**9,
        ticks=120 if number == 0 else 30,
        outcome="failure" if number % 5 == 4 else "success",
        interrupted=number % 7 == 6,
        end_reason="time is up" if number % 5 == 4 else "goal reached",
        policy_repo="lefleet/act-so101-block" if number < 15 else "lefleet/act-so101-first",
        policy_commit="3f2a1c9d5b7e4a60c1d2e3f4a5b6c7d8e9f0a1b2"
        if number < 19
        else "71c4e09b2d6f8a5390e1b7c4d2f6a80513c9e7b4",
        task="Fold the towel" if number % 6 == 4 else "Put the block on the disc",
        seed=number,
    )


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator:
    if CHROMIUM is None:
        pytest.skip("NO BROWSER TESTS: chromium is missing; install it with `apt-get install chromium`")
    from playwright.async_api import async_playwright

    OUTPUT.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
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
    """Opens a browser on a server: `await look(url)`, logged in as ada unless told otherwise; `on` another program."""
    contexts, viewers = [], []

    async def make(url: str, username: str | None = "ada", on: object = None, **options: object) -> Viewer:
        context = await (on or browser).new_context(**{"viewport": {"width": 1440, "height": 900}} | options)
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


@pytest.fixture
async def labels(fleet: Fleet, look: Callable) -> AsyncIterator[Callable]:
    """The labels of all episodes by the API; without any before and afterwards: for each test that labels."""
    viewer = await look(fleet.url)

    async def read() -> dict[str, tuple[str | None, str | None]]:
        answer = await viewer.page.request.get(f"{fleet.url}/api/v1/episodes?limit=500")
        items = (await answer.json())["items"]
        found = {each["id"]: (each["label_outcome"], each["label_note"]) for each in items}
        return {id_: label for id_, label in found.items() if label != (None, None)}

    async def clear() -> None:
        if left := await read():
            cleared = {"labels": [{"id": id_, "outcome": None, "note": None} for id_ in left]}
            assert (await viewer.page.request.patch(f"{fleet.url}/api/v1/episodes", data=cleared)).ok

    await clear()
    yield read
    await clear()
