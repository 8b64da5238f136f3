"""Take the README's pictures from the running demo: `make screenshots`."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"


def log_in(page: Page, link: str) -> None:
    page.goto(link)
    page.wait_for_url(lambda url: "login" not in url)


def take(page: Page, address: str, folder: Path) -> None:
    page.wait_for_selector("text=Running", timeout=60_000)
    page.wait_for_timeout(3_000)
    page.screenshot(path=folder / "fleet.png")
    page.goto(f"{address}/episodes?outcome=success")
    page.locator("a[href^='/episodes/']").first.wait_for(timeout=60_000)
    page.goto(address + (page.locator("a[href^='/episodes/']").first.get_attribute("href") or ""))
    page.wait_for_timeout(3_000)
    page.keyboard.press("Space")
    page.wait_for_timeout(2_500)
    page.keyboard.press("Space")
    page.wait_for_timeout(500)
    page.screenshot(path=folder / "episode.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the pictures go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    welcome = [sys.executable, ROOT / "ansible" / "demo" / "welcome.py", "--login"]
    link = subprocess.run(welcome, check=True, capture_output=True, text=True).stdout.strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="dark")
        log_in(page, link)
        take(page, link.split("/login")[0], folder)
        browser.close()


if __name__ == "__main__":
    main()
