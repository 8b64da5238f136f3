"""A server with episodes that are some days old, to be held, deleted and judged by rules."""

import time
from contextlib import contextmanager
from pathlib import Path

import drawn_episode
import httpx
from drawn_episode import Drawing
from house import PASSWORD
from sqlalchemy import text

_EPISODES = 8


class Kept:
    """A server with episodes of two robots, oldest first."""

    def __init__(self, server, episodes):
        self.server = server
        self.url = server.url
        self.episodes = episodes

    def judge_and_collect(self, episode, outcome, note, into):
        with self._client("ada") as client:
            label = {"outcome": outcome, "note": note}
            client.put(f"/api/v1/episodes/{episode}/label", json=label).raise_for_status()
            client.post("/api/v1/sets", json={"name": into}).raise_for_status()
            client.patch(f"/api/v1/sets/{into}/episodes", json={"add": [episode]}).raise_for_status()

    def entries(self, **which):
        """The audit log's entries, newest first, as an administrator reads them."""
        with self._client("root") as client:
            return client.get("/api/v1/audit", params=which).raise_for_status().json()["items"]

    @contextmanager
    def _client(self, username):
        with httpx.Client(base_url=self.url, timeout=30) as client:
            client.post("/api/v1/login", json={"username": username, "password": PASSWORD}).raise_for_status()
            yield client


def build(server, folder: Path) -> Kept:
    """Episode 0 arrived ten days ago, the next one a day later, and so on; two successes, two failures, by turns."""
    robots = [server.enrol(name) for name in ("robot-1", "robot-2")]
    made = []
    for number in range(_EPISODES):
        robot = robots[number % 2]
        started_ns = time.time_ns() - (10 - number) * 86400 * 10**9
        drawing = Drawing(robot.id, started_ns, ticks=12, outcome=("success", "failure")[number // 2 % 2], seed=number)
        robot.upload(drawn_episode.write(folder, drawing))
        made.append(drawing.episode_id)
    server.do(_age)
    robots[0].heartbeat()
    for robot in robots:
        robot.close()
    return Kept(server, made)


async def _age(session):
    await session.execute(text("UPDATE episodes SET received_at = started_at"))


async def words(viewer, selector):
    return " ".join((await viewer.page.inner_text(selector)).split())


async def hold(viewer, why):
    await viewer.page.click(".lf-hold >> text=/^Hold$/")
    await viewer.page.fill("[name=reason]", why)
    await viewer.page.press("[name=reason]", "Enter")
    await viewer.page.wait_for_selector(f"[data-hold] >> text={why}")
