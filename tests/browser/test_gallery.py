"""`make screenshots`, against the tests' own server: every picture is taken, small, and shown by docs/gallery.md."""

import asyncio
import sys
from pathlib import Path

import cv2
import screenshots

PICTURES = (*screenshots.ON_A_DESK, *screenshots.ON_A_PHONE)


async def test_every_picture_is_taken_and_small_and_the_page_shows_it(browser, fleet, tmp_path):
    command = [screenshots.__file__, "--docs", str(tmp_path), "--link", fleet.server.login_link("root")]
    taking = await asyncio.create_subprocess_exec(sys.executable, *command)
    while taking.returncode is None:
        for robot in fleet.robots.values():
            robot.heartbeat()
        await asyncio.sleep(1)
    assert taking.returncode == 0
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == sorted(each.file for each in PICTURES)
    for each in PICTURES:
        path = tmp_path / "images" / each.file
        assert path.stat().st_size <= screenshots.MAX_BYTES
        assert cv2.imread(str(path)).shape[:2] == ((1688, 780) if each in screenshots.ON_A_PHONE else (900, 1440))
    assert (tmp_path / "gallery.md").read_text() == screenshots.gallery()


def test_the_committed_page_is_what_the_pictures_need_and_all_are_there():
    assert (screenshots.DOCS / "gallery.md").read_text() == screenshots.gallery(), "run: make screenshots"
    kept = {path.name for path in (Path(screenshots.DOCS) / "images").iterdir()}
    assert kept == {each.file for each in PICTURES}
