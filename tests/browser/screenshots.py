"""Take the pictures of docs/gallery.md and the README from the running demo, and write the page: `make screenshots`."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MAX_BYTES = 150_000
"""Of one picture: the repository carries each that was ever taken."""
DESK = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
SET = "gallery"
_FLAGS = ["--no-sandbox", "--enable-unsafe-swiftshader"]  # tests may run as root; WebGL by the processor


RUNNING = 'text="Running"'
"""A robot's state, and not what the page says of how many are running."""


@dataclass(frozen=True)
class Picture:
    """A page to photograph once `sign`, a selector, is there. `{robot}` and `{episode}` stand for one of each."""

    name: str
    path: str
    sign: str
    caption: str
    settle: Callable[[Page], None] | None = None

    @property
    def file(self) -> str:
        return f"{self.name}.webp"


def _wait(page: Page) -> None:
    page.wait_for_timeout(3_000)  # cameras and the arm come one by one


def _run(page: Page) -> None:
    _wait(page)
    page.locator(RUNNING).first.wait_for(timeout=60_000)  # between two episodes an arm rests for some seconds


def _play(page: Page) -> None:
    page.keyboard.press("Space")
    page.wait_for_timeout(2_500)
    page.keyboard.press("Space")
    page.wait_for_timeout(500)


def _hide(page: Page) -> None:
    """A folder of the machine that took the picture means nothing to whoever looks at it."""
    page.locator("dt:text-is('Place') + dd").evaluate("(each) => (each.style.filter = 'blur(5px)')")


_FLEET = Picture("fleet", "/", RUNNING, "The fleet: every robot as it is now, with its cameras", _run)
_ROBOT = Picture(
    "robot", "/robots/{robot}", "lf-camera[data-state=live]", "A robot: cameras, joints, motors, work", _wait
)
_EPISODE = Picture(
    "episode", "/episodes/{episode}", "lf-player[data-state=paused]", "An episode: cameras, joints and actions in step",
    _play,
)  # fmt: skip
ON_A_DESK = (
    _FLEET,
    Picture("fleet-table", "/?view=table", RUNNING, "The fleet as a table, for more robots than a wall shows"),
    _ROBOT,
    Picture("episodes", "/episodes", "a.lf-row", "Episodes: filtered, judged and collected from the keyboard"),
    _EPISODE,
    Picture("compare", "/compare", "[data-group]", "Compare: how often policies succeed, and how sure that is"),
    Picture("sets", "/sets", f"[data-set={SET}]", "Sets: episodes collected for training or a report"),
    Picture("storage", "/storage", ".lf-main h1", "Storage: what lies where, and how long it will last", _hide),
    Picture("jobs", "/jobs", ".lf-main h1", "Jobs: what workers do to episodes"),
    Picture("people", "/people", ".lf-main h1", "People: who may look, act and administer"),
    Picture("audit", "/audit", ".lf-main h1", "The audit log: every change, by whom"),
)
ON_A_PHONE = tuple(
    Picture(f"phone-{each.name}", each.path, each.sign, each.caption, each.settle)
    for each in (_FLEET, _ROBOT, _EPISODE)
)


def gallery() -> str:
    """docs/gallery.md: every picture with its caption, those of a phone beside each other."""
    lines = ["# The dashboard in pictures", "", "`make screenshots` takes them anew from the running demo.", ""]
    for each in ON_A_DESK:
        lines += [f"## {each.caption}", "", f"![{each.caption}](images/{each.file})", ""]
    shown = " ".join(f'<img src="images/{each.file}" width="270" alt="{each.caption}">' for each in ON_A_PHONE)
    return "\n".join([*lines, "## On a phone", "", shown, ""])


def compress(png: bytes) -> bytes:
    """As WebP, as good as MAX_BYTES allow."""
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    for quality in range(90, 0, -10):
        data = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(data) <= MAX_BYTES:
            return data
    raise SystemExit(f"screenshots: a picture takes more than {MAX_BYTES} bytes at any quality; take a smaller window")


def take(page: Page, address: str, pictures: tuple[Picture, ...], names: dict[str, str], folder: Path) -> None:
    for picture in pictures:
        page.goto(address + picture.path.format(**names))
        page.locator(picture.sign).first.wait_for(timeout=60_000)
        (picture.settle or (lambda page: page.wait_for_timeout(500)))(page)
        (folder / picture.file).write_bytes(compress(page.screenshot(animations="disabled")))


@contextmanager
def logged_in(browser: Browser, link: str) -> Iterator[BrowserContext]:
    context = browser.new_context(**DESK, color_scheme="dark")
    page = context.new_page()
    page.goto(link)
    page.wait_for_url(lambda url: "login" not in url)
    page.close()
    yield context
    context.close()


@contextmanager
def collected(context: BrowserContext, api: str) -> Iterator[dict[str, str]]:
    """A robot and an episode to show, in a set that goes again."""
    found = context.request.get(f"{api}/episodes?outcome=success&limit=5").json()["items"]
    if not found:
        raise SystemExit("screenshots: no episode has succeeded yet; wait for one, then try again")
    ids = [each["id"] for each in found]
    _done(context.request.post(f"{api}/sets", data={"name": SET, "note": "Five that went well"}))
    try:
        _done(context.request.patch(f"{api}/sets/{SET}/episodes", data={"add": ids}))
        yield {"episode": ids[0], "robot": found[0]["robot_id"]}
    finally:
        _done(context.request.delete(f"{api}/sets/{SET}"))


def _done(answer) -> None:
    if not answer.ok:
        raise SystemExit(f"screenshots: {answer.url} answered {answer.status}: {answer.text()}")


def new_link() -> str:
    welcome = [sys.executable, ROOT / "ansible" / "demo" / "welcome.py", "--login"]
    return subprocess.run(welcome, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=DOCS, help="where gallery.md and images/ go")
    parser.add_argument("--link", help="a log-in link of an administrator; left out: one of the demo")
    asked = parser.parse_args()
    images = asked.docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    link = asked.link or new_link()
    address = link.split("/login")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        with logged_in(browser, link) as desk, collected(desk, f"{address}/api/v1") as names:
            take(desk.new_page(), address, ON_A_DESK, names, images)
            phone = browser.new_context(**PHONE, storage_state=desk.storage_state())
            phone.add_cookies([{"name": "lefleet_theme", "value": "light", "url": address}])
            take(phone.new_page(), address, ON_A_PHONE, names, images)
        browser.close()
    (asked.docs / "gallery.md").write_text(gallery())


if __name__ == "__main__":
    main()
