"""The same programs as on several hosts: nothing is shared but PostgreSQL by TCP and an S3 store, behind the balancer.

As root each program has a mount namespace of its own, in which the others' folders, PostgreSQL's and the store's do not
exist; otherwise each has a folder of its own alone.
"""

import contextlib
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from killable import Postgres, Program, free_port
from one_host import House

from lefleet_server import cluster

sys.path.append(str(Path(__file__).parents[1]))

import object_stores
import proxies

PREFIX = "soak"
PASSWORD = "a-password-of-the-tests"
_HIDE = """
mount --bind "$1" /mnt && mount -t tmpfs none "$2" && mkdir -p "$1" && mount --move /mnt "$1" || exit
shift 2
exec "$@"
"""
_LISTENING = """
import runpy
from lefleet_server import postgres
postgres._OPTIONS.update(listen_addresses="127.0.0.1", port="{port}")
runpy.run_module("lefleet_server", run_name="__main__", alter_sys=True)
"""


class Hosts(House):
    """Robots and people come in by the balancer."""

    def __init__(self, folder: Path) -> None:
        self._database_port, self._entry_port = free_port(), free_port()
        (folder / "s3").mkdir()
        self.store = Store(object_stores.S3Server(folder / "s3", free_port()))
        super().__init__(folder)
        self.entries = [f"http://127.0.0.1:{self._entry_port}"]
        programs = self.programs
        self.programs = {"postgres": programs.pop("postgres"), "store": [self.store]} | programs

    def entrance(self) -> contextlib.AbstractContextManager[object]:
        return proxies.balancing(self.folder / "balancer", self._entry_port, self.ports["serve"])

    def make_database(self) -> None:
        self.postgres.ask(f"CREATE DATABASE {cluster.DATABASE}", "postgres")
        super().make_database()

    def age_files(self) -> None:
        self.store.server.age_all()

    def left_on_hosts(self) -> list[str]:
        """Files that programs keep beside their settings."""
        own = {"server.yml", "database_password", "store_credentials.yml"}
        hosts = self.folder / "hosts"
        return [str(path.relative_to(hosts)) for path in hosts.rglob("*") if path.is_file() and path.name not in own]

    def _make_postgres(self) -> Postgres:
        home = self.folder / "postgres"
        home.mkdir(mode=0o755)
        cluster.password_file(home).write_text(PASSWORD)
        cluster.password_file(home).chmod(0o600)
        config = self.folder / "postgres.yml"
        config.write_text(yaml.safe_dump({"state_dir": str(home / "state"), "postgres_dir": str(home)}))
        return ListeningPostgres(config, self.folder / "postgres.log", self._database_port)

    def _program(self, words: list[str], name: str, ready: Any, settings: dict[str, Any]) -> Program:
        program = super()._program(words, name, ready, settings)
        if may_hide():
            own = str(program.config.parent)
            program.before = ["unshare", "--mount", "sh", "-c", _HIDE, "sh", own, str(self.folder)]
        return program

    def _write(self, name: str, more: dict[str, Any]) -> Path:
        own = self.folder / "hosts" / name
        own.mkdir(parents=True)
        secrets = {
            "database_password": PASSWORD,
            "store_credentials.yml": yaml.safe_dump(
                {"access_key_id": object_stores.KEY, "secret_access_key": object_stores.SECRET}
            ),
        }
        for file, text in secrets.items():
            (own / file).write_text(text)
            (own / file).chmod(0o600)
        settings = {
            "state_dir": str(own / "state"),
            "public_url": f"http://127.0.0.1:{self._entry_port}",
            "database_url": f"postgresql://{cluster.SUPERUSER}@127.0.0.1:{self._database_port}/{cluster.DATABASE}",
            "database_password_file": str(own / "database_password"),
            "min_free_bytes": 0,
            "job_heartbeat_timeout_s": 3,
        }
        store = self.store.server.settings(PREFIX) | {"store_credentials_file": str(own / "store_credentials.yml")}
        (own / "server.yml").write_text(yaml.safe_dump(settings | store | more))
        return own / "server.yml"


class ListeningPostgres(Postgres):
    """The embedded one, which by itself has no TCP port."""

    def __init__(self, config: Path, log: Path, port: int) -> None:
        super().__init__(config, log)
        self.program = ["-c", _LISTENING.format(port=port)]
        self._port = port

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"host": "127.0.0.1", "port": self._port}


class Store(Program):
    """The S3 server."""

    def __init__(self, server: object_stores.S3Server) -> None:
        super().__init__(["s3"], server.credentials, server.log, server.answers)
        self.server = server

    def start(self) -> None:
        self.worked = False
        self.process = self.server.begin()


@functools.cache
def may_hide() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0
