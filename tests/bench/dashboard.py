"""The fleet page with 500 robots: first paint, live update, and what each viewer costs the server.

Robots are HTTP clients with a credential each (dashboard_robots.py), viewers are pages of Debian's Chromium, the server
and its PostgreSQL are the real programs.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
from figure import Column, Figure, Row, Sample, compare
from options import Options
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError
from processes import BenchError, Unavailable, cpu_s, tail
from upload_servers import UploadServer, command, lefleet

NAME = "dashboard"
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
]
PAINT = Column("paint_ms", "first paint, ms", 0)
UPDATE = Column("update_ms", "heartbeat to cell, ms", 0)
CPU = Column("cpu_ms_s", "server CPU, ms/s", 0)
EACH = Column("viewer_ms_s", "of it a viewer, ms/s", 1)
BEATS = Column("beats_s", "heartbeats/s", 0)
COLUMNS = (PAINT, UPDATE, CPU, EACH, BEATS)
BARE, NOBODY = "a page without robots (floor)", "nobody looks (floor)"
_STATES_SHOWN = {"running": "Running", "resetting": "Resetting"}


def viewers(options: Options) -> list[int]:
    return [1, 2] if options.quick else [1, 5]


def steps(options: Options) -> int:
    return 2 + options.rounds * (2 + len(viewers(options)))


def row_of(count: int) -> str:
    return f"{count} viewer{'s' * (count > 1)}"


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    if not CHROMIUM.exists():
        raise Unavailable(f"{CHROMIUM} is missing: `python3 ansible/demo/packages.py test` installs it")
    robots = 30 if options.quick else 500
    found: dict[str, list[Sample]] = {name: [] for name in (BARE, NOBODY, *map(row_of, viewers(options)))}
    with TemporaryDirectory(dir=options.folder) as scratch, ExitStack() as stack:
        folder = Path(scratch)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own when we are root
        tell("starting the server")
        server = stack.enter_context(lefleet(folder / "lefleet", 0))
        config = folder / "lefleet" / "server.yml"
        stack.enter_context(said_plainly())
        tell(f"enrolling {robots} robots")
        fleet = stack.enter_context(speaking(server, enrol(server, config, robots), folder / "robots.log"))
        playwright = stack.enter_context(sync_playwright())
        browser = stack.enter_context(playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS))
        desk = Desk(browser, f"http://127.0.0.1:{server.port}", login(config))
        window_s = 2.0 if options.quick else 15.0
        for _ in range(options.rounds):
            tell(BARE)
            found[BARE].append({PAINT.key: desk.paint("/no-such-page", ".lf-empty")})
            tell(NOBODY)
            idle = spent(server, fleet, window_s)
            found[NOBODY].append(idle)
            for count in viewers(options):
                tell(row_of(count))
                found[row_of(count)].append(turn(desk, server, fleet, count, idle, window_s))
    rows = tuple(Row(name, tuple(samples)) for name, samples in found.items())
    one, most = row_of(viewers(options)[0]), row_of(viewers(options)[-1])
    return Figure(
        NAME,
        f"Fleet page with {robots} robots that speak every 5 s, median of {options.rounds}",
        COLUMNS,
        rows,
        compare("fleet page", rows, one, BARE, PAINT, lower_is_better=True)
        + compare("fleet page", rows, one, NOBODY, CPU, lower_is_better=True)
        + compare("fleet page", rows, most, NOBODY, CPU, lower_is_better=True),
        (
            "First paint: from asking for the page until its first robot (or its text) is drawn. The page looks once a "
            "second, so a heartbeat waits half a second on average. Browser, robots and server share the cores: where "
            "fewer heartbeats arrive than with nobody looking, the browsers took the processor from the robots.",
        ),
    )


@contextmanager
def said_plainly() -> Iterator[None]:
    """What the browser could not do, as this benchmark's failure and nobody else's."""
    try:
        yield
    except PlaywrightError as error:
        raise BenchError(f"the browser: {error.message.splitlines()[0]}; is the machine too busy?") from error


class Desk:
    """Opens pages as one person."""

    def __init__(self, browser: Browser, url: str, link: str) -> None:
        self._url = url
        self._context = browser.new_context(viewport={"width": 1440, "height": 900})
        self._context.set_default_timeout(180_000)  # twenty browsers on two cores take their time
        page = self._context.new_page()
        page.goto(link)
        page.wait_for_url(f"{url}/")
        page.close()

    def open(self, path: str, sign: str) -> Page:
        page = self._context.new_page()
        page.goto(self._url + path, wait_until="commit")
        page.wait_for_selector(sign)
        return page

    def paint(self, path: str, sign: str) -> float:
        """Milliseconds until `sign` is drawn, on a page whose scripts the browser knows; the median of three."""
        taken = []
        for _ in range(3):
            began_s = time.monotonic()
            page = self.open(path, sign)
            taken.append((time.monotonic() - began_s) * 1e3)
            page.close()
        return median(taken)


def turn(desk: Desk, server: UploadServer, fleet: "Fleet", count: int, idle: Sample, window_s: float) -> Sample:
    first = "[data-robot=bench-000] a"
    painted_ms = desk.paint("/", first)
    pages = [desk.open("/", first) for _ in range(count)]
    try:
        for page in pages:
            page.wait_for_function("window.did_handshake === true")
        busy = spent(server, fleet, window_s)
        updates = [fleet.change("bench-000", pages[-1]) for _ in range(5)]
    finally:
        for page in pages:
            page.close()
    viewer_ms_s = (busy[CPU.key] - idle[CPU.key]) / count
    return busy | {PAINT.key: painted_ms, UPDATE.key: median(updates), EACH.key: viewer_ms_s}


class Fleet:
    """The robots' process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, line: str) -> str:
        assert self._process.stdin and self._process.stdout, "were asked for"
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def spoken(self) -> int:
        """Heartbeats that were answered so far."""
        return int(json.loads(self.say("spoken"))["spoken"])

    def change(self, robot_id: str, page: Page) -> float:
        """Lets a robot say another state; milliseconds until the page shows it. Both clocks are this machine's."""
        told = json.loads(self.say(robot_id))
        shown = _STATES_SHOWN[told["state"]]
        page.wait_for_selector(f"[data-robot={robot_id}] .lf-chip >> text={shown}")
        return (time.time() - float(told["sent_s"])) * 1e3


@contextmanager
def speaking(server: UploadServer, tokens: dict[str, str], log: Path) -> Iterator[Fleet]:
    script = str(Path(__file__).with_name("dashboard_robots.py"))
    with log.open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            fleet = Fleet(process)
            if fleet.say(json.dumps({"port": server.port, "tokens": tokens})) != "ready\n":
                raise BenchError(f"the robots did not speak: {tail(errors)}")
            yield fleet
        finally:
            process.kill()
            process.wait()


def enrol(server: UploadServer, config: Path, count: int) -> dict[str, str]:
    """Credentials by robot, as an administrator and the robots get them."""
    command(config, "users", "add", "admin", "--role", "admin")
    tokens = {}
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}/api/v1", timeout=30) as person:
        person.post("/login", json={"code": login(config).split("code=")[1]}).raise_for_status()
        for number in range(count):
            robot_id = f"bench-{number:03}"
            code = person.post(f"/robots/{robot_id}/enrolment-code").raise_for_status().json()["code"]
            body = {"code": code, "robot_id": robot_id, "agent_version": "0.1.0", "hw": "bench"}
            tokens[robot_id] = httpx.post(f"{person.base_url}robots/enrol", json=body, timeout=30).json()["token"]
    return tokens


def login(config: Path) -> str:
    return str(json.loads(command(config, "login-link", "--user", "admin", "--json"))["url"])


def spent(server: UploadServer, fleet: Fleet, window_s: float) -> Sample:
    """Processor milliseconds a second of the server, its database not counted, and the heartbeats that came."""
    before_s, spoken, began_s = cpu_s(server.web_pid), fleet.spoken(), time.monotonic()
    time.sleep(window_s)
    cpu, came, window_s = cpu_s(server.web_pid) - before_s, fleet.spoken() - spoken, time.monotonic() - began_s
    return {CPU.key: cpu / window_s * 1e3, BEATS.key: came / window_s}
