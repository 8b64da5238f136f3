"""A real PostgreSQL for the tests that ask for one: started once by the server's own command, a database per test."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

_numbers = itertools.count()


def server_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "lefleet_server", *map(str, arguments)]


@pytest.fixture(scope="session")
def postgres() -> Iterator[dict]:
    """How to connect (asyncpg arguments) to a cluster whose database `lefleet` is migrated and only a template."""
    from lefleet_server import cluster

    # Not pytest's own folder: that is closed to the system user that PostgreSQL runs as when we are root.
    with tempfile.TemporaryDirectory(prefix="lefleet-test-") as folder:
        Path(folder).chmod(0o755)
        config = Path(folder) / "server.yml"
        config.write_text(f"state_dir: {folder}/state\npostgres_dir: {folder}/postgres\nlog_format: console\n")
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(server_command("postgres", "--config", config), stdout=log, stderr=log)
        try:
            subprocess.run(server_command("migrate", "--config", config), check=True, capture_output=True)
            arguments = cluster.read(Path(folder) / "postgres").connection_arguments()
            # Nothing here outlives the machine, and every test makes a database.
            execute(arguments, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            yield arguments
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
            subprocess.run(server_command("postgres", "--erase", "--config", config), check=True, capture_output=True)


@pytest.fixture
def database_url(postgres: dict) -> Iterator[str]:
    """A migrated database of this test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    execute(postgres, f"CREATE DATABASE {name} TEMPLATE lefleet")
    host = quote(postgres["host"], safe="")
    yield f"postgresql://{postgres['user']}:{postgres['password']}@/{name}?host={host}"
    execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def server_settings(database_url: str, tmp_path: Path) -> dict:
    """What a settings file of this test would hold; `Settings(**server_settings)`, or written as YAML."""
    return {
        "state_dir": str(tmp_path / "server"),
        "database_url": database_url,
        "port": free_port(),
        "min_free_bytes": 0,
        "log_format": "console",
    }


@pytest.fixture
def run_app() -> Iterator[Callable]:
    """Serves an app by uvicorn on a thread until the test ends; returns its address."""
    import uvicorn

    with contextlib.ExitStack() as stack:

        def run(app: object, port: int) -> str:
            server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            stack.callback(thread.join, 20)
            stack.callback(setattr, server, "should_exit", True)
            wait_until(lambda: server.started or not thread.is_alive())
            assert thread.is_alive(), "the server ended at its start"
            return f"http://127.0.0.1:{port}"

        yield run


def execute(arguments: dict, *statements: str) -> None:
    import asyncpg

    async def main() -> None:
        connection = await asyncpg.connect(**arguments | {"database": "postgres"})
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    # On a thread: some callers have an event loop running on theirs.
    failures: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - raised again below, on the caller's thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {holds}"
        time.sleep(0.05)
