"""`kill -9` between the steps of a deletion, and at any moment of a retention run: rows and files agree afterwards."""

import asyncio
import hashlib
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import asyncpg
import pytest
import yaml
from sqlalchemy import insert, text
from test_server_faults import write_episode

from lefleet_server.app import build_services
from lefleet_server.config import Settings
from lefleet_server.deletion import files
from lefleet_server.episodes.fsck import Finding, Fsck
from lefleet_server.episodes.models import Episode
from lefleet_server.previews.models import EpisodePreview
from lefleet_server.robots.models import Robot

pytestmark = pytest.mark.faults

EPISODES = 40
DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from sqlalchemy import event
from lefleet_server.app import build_services
from lefleet_server.config import load
from lefleet_server.deletion import files, service

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

step, config, episode = sys.argv[1:]

async def main():
    services = build_services(load(Path(config)))
    db, blobs = services.db, services.blobs
    if step == "before-commit":
        event.listen(db.engine.sync_engine, "commit", die)
    async with db.transaction() as session:
        await service.delete_episode(session, episode, "test", "why", 0)
    if step == "after-commit":
        die()
    remove = blobs.remove
    async def dying(sha256):
        if step == "after-remove":
            await remove(sha256)
        die()
    if step == "after-first-file":
        event.listen(db.engine.sync_engine, "checkin", die)
    else:
        blobs.remove = dying
    await files.remove_due(db, blobs)

asyncio.run(main())
"""


async def fill(settings: Settings, folder, count: int) -> list[str]:
    """Stores episodes, each with two previews; the thumbnails are all the same file."""
    services, ids = build_services(settings), []
    services.blobs.root.mkdir(parents=True)
    async with services.db.transaction() as session:
        await session.execute(insert(Robot).values(id="robot-1", hw="", agent_version=""))
    for number in range(count):
        path = write_episode(folder, 5 + number)
        sha256, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        await services.blobs.publish(path, sha256)
        now, words = datetime.now(UTC), ("end_reason", "task", "policy_repo", "policy_commit", "policy_digest")
        numbers = {"frames": 5 + number, "frames_dropped": 0, "fps": 30.0, "hz_held": 30.0, "duration_s": 1.0}
        values = {"id": path.stem, "robot_id": "robot-1", "receipt_id": path.stem, "sha256": sha256, "bytes": size}
        values |= {"started_at": now, "ended_at": now, "outcome": "success", "interrupted": False, "cameras": []}
        values |= numbers | dict.fromkeys(words, "") | {"meta": {}, "image_index": {}}
        previews = [await preview(services, folder, path.stem, "video", f"video of {path.stem}")]
        previews.append(await preview(services, folder, path.stem, "first", "black"))
        async with services.db.transaction() as session:
            await session.execute(insert(Episode).values(values))
            await session.execute(insert(EpisodePreview).values(previews))
        ids.append(path.stem)
    await services.db.close()
    return ids


async def preview(services, folder, episode_id: str, kind: str, words: str) -> dict:
    path = folder / "preview"
    path.write_text(words)
    sha256 = hashlib.sha256(words.encode()).hexdigest()
    await services.blobs.publish(path, sha256)
    same = {"camera": "front", "version": 1, "width": 1, "height": 1, "duration_s": 1.0, "reason": None}
    return same | {"episode_id": episode_id, "kind": kind, "sha256": sha256, "bytes": len(words)}


def ask(url: str, query: str) -> list:
    async def main() -> list:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    return asyncio.run(main())


@pytest.fixture
def config(server_settings, tmp_path):
    path = tmp_path / "server.yml"
    path.write_text(yaml.safe_dump(server_settings | {"deleted_file_grace_s": 0}))
    return path


def fsck(settings: Settings) -> list[Finding]:
    async def main() -> list[Finding]:
        services = build_services(settings)
        try:
            check = Fsck(settings, services.db, services.blobs, repair=False, deep=True, young_s=-60)
            return [finding async for finding in check.findings(lambda _: None)]
        finally:
            await services.db.close()

    return asyncio.run(main())


def blobs_of(settings: Settings) -> set[str]:
    return {path.name for path in settings.blobs_dir.rglob("*") if path.is_file()}


def named(url: str) -> set[str]:
    query = "SELECT sha256 FROM episodes UNION SELECT sha256 FROM episode_previews"
    return {row[0] for row in ask(url, query)}


def remove_due(settings: Settings) -> int:
    async def main() -> int:
        services = build_services(settings)
        try:
            return await files.remove_due(services.db, services.blobs)
        finally:
            await services.db.close()

    return asyncio.run(main())


@pytest.mark.parametrize("step", ["before-commit", "after-commit", "before-remove", "after-remove", "after-first-file"])
def test_a_deletion_that_is_killed_between_its_steps_leaves_rows_and_files_that_agree(
    server_settings, config, tmp_path, step
):
    settings = Settings(**yaml.safe_load(config.read_text()))
    first, second = asyncio.run(fill(settings, tmp_path, 2))
    died = subprocess.run([sys.executable, "-c", DIE, step, str(config), first], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    assert fsck(settings) == []
    url = server_settings["database_url"]
    expected = {first, second} if step == "before-commit" else {second}
    assert {row[0] for row in ask(url, "SELECT id FROM episodes")} == expected
    remove_due(settings)
    assert blobs_of(settings) == named(url), "the thumbnail that both have stays"
    assert fsck(settings) == []
    assert ask(url, "SELECT 1 FROM blob_removals") == []


def test_retention_killed_at_any_moment_beside_workers_loses_nothing_and_leaves_nothing(
    server_settings, config, tmp_path, wait_until
):
    settings = Settings(**yaml.safe_load(config.read_text()))
    ids = asyncio.run(fill(settings, tmp_path, EPISODES))
    url, held = server_settings["database_url"], ids[7]
    asyncio.run(_rule(settings, held))
    log = (tmp_path / "log").open("ab")
    worker = [sys.executable, "-m", "lefleet_server", "worker", "--config", str(config)]
    workers = [subprocess.Popen(worker, stdout=log, stderr=log) for _ in range(2)]
    chance = random.Random(7)  # noqa: S311 - moments to kill at
    apply = [sys.executable, "-m", "lefleet_server", "retention", "--apply", "--config", str(config)]

    def left() -> int:
        return ask(url, "SELECT count(*) FROM episodes")[0][0]

    try:
        for _ in range(4):
            before = left()
            run = subprocess.Popen(apply, stdout=log, stderr=log)
            wait_until(lambda run=run, before=before: left() < before or run.poll() is not None, 60)
            time.sleep(chance.random() * 0.05)
            run.kill()
            run.wait(10)
            assert fsck(settings) == []
        subprocess.run(apply, stdout=log, stderr=log, check=True)
    finally:
        for each in workers:
            each.kill()
            each.wait(10)
        log.close()
    assert {row[0] for row in ask(url, "SELECT id FROM episodes")} == {held}
    assert len(ask(url, "SELECT 1 FROM audit_log WHERE action = 'episode.deleted'")) == EPISODES - 1
    assert len(ask(url, "SELECT 1 FROM deleted_episodes")) == EPISODES - 1
    remove_due(settings)
    assert blobs_of(settings) == named(url)
    assert fsck(settings) == []


async def _rule(settings: Settings, held: str) -> None:
    services = build_services(settings)
    async with services.db.transaction() as session:
        rule = "INSERT INTO retention_rules (name, older_than_days, outcomes, robots, enabled, changed_by)"
        await session.execute(text(rule + " VALUES ('all', 0, '[]', '[]', true, 'test')"))
        hold = "INSERT INTO legal_holds (episode_id, reason, placed_by) VALUES (:id, 'a court asks', 'test')"
        await session.execute(text(hold), {"id": held})
    await services.db.close()
