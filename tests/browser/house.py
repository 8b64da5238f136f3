"""A server with what the house's pages show: people, tokens, jobs that died, files that are wrong, one on its way in.

Everything comes about as it does in use: a real worker analyses the files, and what is wrong with them was put in.
"""

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import drawn_episode
import h5py
import httpx
import numpy as np
from drawn_episode import Drawing
from robot_client import JOINTS, METRICS, RobotClient
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.jobs import queue
from lefleet_server.jobs.models import Job

PASSWORD = "a long enough password"
_ANALYSIS_S = 120
_RUNNING = "5" * 32


@dataclass(frozen=True)
class House:
    """`clean`, `flagged`, `quarantined` and `waiting` are episodes' ids."""

    server: object
    robot: RobotClient
    clean: str
    flagged: str
    quarantined: str
    waiting: str

    @property
    def url(self) -> str:
        return self.server.url

    def tell(self) -> None:
        """robot-1 says that it is in the middle of an episode, on a host that differs from its roles."""
        drift = {"roles": ["swap"], "checked_unix_s": int(time.time()) - 3600}
        self.robot.heartbeat(joints=JOINTS, metrics=METRICS, drift=drift, episode_id=_RUNNING)
        for camera in ("front", "wrist"):
            self.robot.show(camera, drawn_episode.picture(camera, 40, drawn_episode.joints_at(1.5, 0)))

    def entries(self, **which: str) -> list[dict]:
        """The audit log's entries, newest first, as an administrator reads them."""
        with httpx.Client(base_url=self.url, timeout=30) as client:
            client.post("/api/v1/login", json={"username": "root", "password": PASSWORD}).raise_for_status()
            return client.get("/api/v1/audit", params=which).raise_for_status().json()["items"]


def build(server, folder: Path) -> House:
    robots = [server.enrol(name) for name in ("robot-1", "robot-2")]
    made = {name: _drawing(place) for place, name in enumerate(("clean", "flagged", "quarantined", "waiting"))}
    for name in ("clean", "flagged", "quarantined"):
        path = drawn_episode.write(folder, made[name])
        _spoil(name, path)
        robots[0].upload(path)
    _analyse(server, 3)
    robots[1].upload(drawn_episode.write(folder, made["waiting"]))
    server.do(_kill)
    robots[1].upload(drawn_episode.write(folder, replace(_drawing(9), robot_id="robot-2")), part=0.5)
    robots[1].close()
    return House(server, robots[0], **{name: drawing.episode_id for name, drawing in made.items()})


def _drawing(place: int) -> Drawing:
    """Dropped frames are of its attributes; the second one has them."""
    return Drawing(
        robot_id="robot-2" if place == 3 else "robot-1",
        started_wall_ns=time.time_ns() - (2 + place) * 60 * 10**9,
        ticks=90,
        frames_dropped=9 if place == 1 else 0,
        seed=place,
    )


def _spoil(name: str, path: Path) -> None:
    with h5py.File(path, "r+") as file:
        if name == "flagged":
            jerky = file["observations/qpos"][:]
            jerky[:, 1] += np.random.default_rng(1).normal(0, 5, len(jerky))
            file["observations/qpos"][:] = jerky
        if name == "quarantined":
            file["observations/qpos"][3, 2] = np.nan


def _analyse(server, episodes: int) -> None:
    """A worker, as its users run it, until it has looked at all of them."""
    command = [sys.executable, "-m", "lefleet_server", "worker", "--config", str(server.config)]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + _ANALYSIS_S
    try:
        while server.do(_waiting):
            assert worker.poll() is None and time.monotonic() < deadline, f"{episodes} episodes are not analysed"
            time.sleep(0.2)
    finally:
        worker.terminate()
        worker.wait(30)


async def _waiting(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(Job)) or 0


async def _kill(session: AsyncSession) -> None:
    """Lets the job that waits fail for the last time."""
    job = await queue.claim(session, "a claim", "worker-1")
    assert job and await queue.fail(session, job, "attempt 5: Unavailable: the store does not answer", 1) == "dead"
