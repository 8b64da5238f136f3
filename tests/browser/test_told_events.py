"""What the server knows of a robot during an episode stands on the episode's time line, at the tick where it was."""

import time
from datetime import datetime
from types import SimpleNamespace

import drawn_episode
import httpx
import pytest
from drawn_episode import Drawing
from house import PASSWORD
from test_phone import PHONE

TICKS, FPS = 60, 30
BEFORE_S = 1.0
"""The episode begins so long before the emergency stop and ends as long after it."""


@pytest.fixture(scope="module")
def made(serve, tmp_path_factory):
    """An episode in whose middle ada stopped the robot; before it and after it other things happened."""
    server = serve("told")
    robot = server.enrol("robot-1")
    robot.heartbeat(state="running")
    time.sleep(BEFORE_S + 0.2)
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=30) as ada:
        ada.post("/login", json={"username": "ada", "password": PASSWORD}).raise_for_status()
        number = ada.put("/robots/robot-1/estop").raise_for_status().json()["number"]
        time.sleep(0.2)
        robot.heartbeat(state="estopped", estop={"wish": number, "holds": True})
        time.sleep(0.2)
        ada.request("DELETE", "/robots/robot-1/estop", params={"number": number}).raise_for_status()
        ada.put("/robots/robot-1/hold", json={"reason": "It hit the table"}).raise_for_status()
        time.sleep(BEFORE_S)
        ada.put("/robots/robot-1/notes", json={"text": "Bent", "version": 0}).raise_for_status()
        changes = ada.get("/robots/robot-1/changes").raise_for_status().json()["items"]
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=30) as root:
        root.post("/login", json={"username": "root", "password": PASSWORD}).raise_for_status()
        entries = root.get("/audit", params={"subject": "robot:robot-1"}).raise_for_status().json()["items"]
    at = {entry["action"]: datetime.fromisoformat(entry["at"]).timestamp() for entry in entries}
    at |= {change["new"]: datetime.fromisoformat(change["at"]).timestamp() for change in changes}
    start_s = at["robot.estop"] - BEFORE_S
    drawing = Drawing("robot-1", round(start_s * 1e9), ticks=TICKS, fps=FPS, camera_every=6)
    robot.upload(drawn_episode.write(tmp_path_factory.mktemp("told"), drawing))
    robot.close()
    ticks = {name: int((found_s - start_s) * FPS) for name, found_s in at.items()}
    assert ticks["robot.enrolled"] < 0 and ticks["robot.notes"] >= TICKS > ticks["hold.placed"]
    return SimpleNamespace(url=server.url, page=f"/episodes/{drawing.episode_id}", ticks=ticks)


async def test_stops_and_changes_stand_where_they_were_and_keys_go_there(made, look):
    viewer = await look(made.url, "vic")
    page = viewer.page
    await viewer.open(made.page)
    await page.wait_for_selector("lf-player[data-state=paused]")
    expected = [
        ("stop", "robot.estop", "Emergency stop asked for by ada"),
        ("stop", "estopped", "State running → estopped"),
        ("stop", "robot.estop-release", "Emergency stop released by ada"),
        ("server", "hold.placed", "Legal hold placed by ada"),
    ]
    events = await page.evaluate("document.querySelector('lf-player').timeline.events")
    found = [(event["kind"], event["text"]) for event in events]
    assert found == [(kind, text) for kind, _, text in expected]
    for event, (_, name, _) in zip(events, expected, strict=True):
        # A float's rounding may put it just before or after a tick.
        assert event["first"] == event["last"] == pytest.approx(made.ticks[name], abs=1)
    for event in {event["first"]: event for event in events}.values():
        await page.keyboard.press(".")
        await page.wait_for_selector(f"lf-player[data-tick='{event['first']}']")
        assert event["text"] in await page.inner_text(".lf-events-now")
    await page.keyboard.press("Home")
    await page.wait_for_selector("lf-player[data-tick='0']")
    await page.click(".lf-event-chip[data-kind=stop]")
    await page.wait_for_selector(f"lf-player[data-tick='{events[0]['first']}']")
    title = await page.get_attribute(".lf-lane[data-kind=stop] i", "title")
    assert title.startswith("Emergency stop asked for by ada · 0:0")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
async def test_how_they_look(made, look, theme, device):
    viewer = await look(made.url, **(PHONE if device == "phone" else {}))
    page = viewer.page
    await page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": made.url}])
    await viewer.open(made.page)
    await page.wait_for_selector("lf-player[data-state=paused]")
    await page.keyboard.press(".")
    await page.wait_for_selector(".lf-event-chip.is-now[data-kind=stop]")
    assert await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    await page.screenshot(path=f"tests/output/{device}-told-{theme}.png", full_page=True)
