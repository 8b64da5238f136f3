"""Two workers side by side, killed in turn, with the database's connections cut meanwhile: each episode counts once."""

import asyncio
import hashlib
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import asyncpg
import h5py
import numpy as np
import pytest
import yaml
from sqlalchemy import insert
from test_server_faults import write_episode

from lefleet_server.analysis import service
from lefleet_server.app import build_services
from lefleet_server.config import Settings
from lefleet_server.episodes.models import Episode
from lefleet_server.jobs import backlog
from lefleet_server.robots.models import Robot

pytestmark = pytest.mark.faults

EPISODES = 40


async def fill(settings: Settings, folder) -> set[str]:
    """Stores the episodes and queues them; returns the ids of those that are invalid."""
    services, bad = build_services(settings), set()
    services.blobs.root.mkdir(parents=True)
    async with services.db.transaction() as session:
        await session.execute(insert(Robot).values(id="robot-1", hw="", agent_version=""))
    for number in range(EPISODES):
        path = write_episode(folder, 20 + number)
        if number % 4 == 0:
            with h5py.File(path, "a") as file:
                file["action"][1, 1] = np.nan
            bad.add(path.stem)
        sha256, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        await services.blobs.publish(path, sha256)
        now, words = datetime.now(UTC), ("end_reason", "task", "policy_repo", "policy_commit", "policy_digest")
        numbers = {"frames": 20 + number, "frames_dropped": 0, "fps": 30.0, "hz_held": 30.0, "duration_s": 1.0}
        values = {"id": path.stem, "robot_id": "robot-1", "receipt_id": path.stem, "sha256": sha256, "bytes": size}
        values |= {"started_at": now, "ended_at": now, "outcome": "success", "interrupted": False, "cameras": []}
        values |= numbers | dict.fromkeys(words, "") | {"meta": {}, "image_index": {}}
        async with services.db.transaction() as session:
            await session.execute(insert(Episode).values(values))
    assert await backlog.enqueue(services.db, [service.older()]) == EPISODES
    await services.db.close()
    return bad


def ask(url: str, query: str) -> list:
    async def main() -> list:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    return asyncio.run(main())


def test_workers_killed_in_turn_leave_every_episode_analysed_or_quarantined_once(server_settings, tmp_path, wait_until):
    values = server_settings | {"job_heartbeat_timeout_s": 2}
    config = tmp_path / "server.yml"
    config.write_text(yaml.safe_dump(values))
    bad = asyncio.run(fill(Settings(**values), tmp_path))
    url = values["database_url"]

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "lefleet_server", "worker", "--config", str(config)]
        with (tmp_path / "worker.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def ended() -> int:
        return ask(url, "SELECT count(*) FROM episode_analysis")[0][0]

    workers = [start(), start()]
    try:
        for turn in range(4):
            wait_until(lambda turn=turn: ended() >= 4 * (turn + 1), 120)
            workers[turn % 2].send_signal(signal.SIGKILL)
            workers[turn % 2].wait(10)
            workers[turn % 2] = start()
        ask(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()",
        )
        time.sleep(1)
        wait_until(lambda: not ask(url, "SELECT 1 FROM jobs"), 200)
        assert [worker.poll() for worker in workers] == [None, None], (tmp_path / "worker.log").read_text()[-3000:]
        for worker in workers:
            worker.terminate()
        assert [worker.wait(30) for worker in workers] == [0, 0], (tmp_path / "worker.log").read_text()[-3000:]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(10)
    found = ask(url, "SELECT episode_id, state FROM episode_analysis")
    assert len(found) == EPISODES
    assert {row["episode_id"] for row in found if row["state"] == "quarantined"} == bad
