"""A real PostgreSQL for the tests that ask for one: started once by the server's own command, a database per test."""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import structlog
import yaml
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from lefleet_agent.config import AgentSettings, load
from lefleet_agent.episode import EpisodeInfo, Frame, Outcome, PolicyInfo
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.robots.fake import FakeRobot
from lefleet_agent.spool import Spool
from lefleet_agent.wiring import build_spool

_numbers = itertools.count()

# No test of ours judges how fast the machine is just now, neither of an example nor of making it.
hypothesis_settings.register_profile("lefleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("lefleet")

# structlog's own choice draws the variables of every frame of an error: with an episode among them, for half a minute.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


def server_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "lefleet_server", *map(str, arguments)]


@contextlib.contextmanager
def open_to_everyone() -> Iterator[Path]:
    """A new folder. pytest's own are closed to the system user that PostgreSQL runs as when we are root."""
    with tempfile.TemporaryDirectory(prefix="lefleet-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with open_to_everyone() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[dict]:
    """How to connect (asyncpg arguments) to a cluster whose database `lefleet` is migrated and only a template."""
    from lefleet_server import cluster

    with open_to_everyone() as folder:
        config = folder / "server.yml"
        config.write_text(f"state_dir: {folder}/state\npostgres_dir: {folder}/postgres\nlog_format: console\n")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(server_command("postgres", "--config", config), stdout=log, stderr=log)
        try:
            subprocess.run(server_command("migrate", "--config", config), check=True, capture_output=True)
            arguments = cluster.read(folder / "postgres").connection_arguments()
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


def beside(name: str) -> Any:
    """The module of this folder, which pytest's importlib mode puts on no path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_authority() -> Callable:
    """`make_authority(folder)` is a certificate authority: see tests/authority.py."""
    return beside("authority").Authority


@pytest.fixture(name="free_port", scope="session")
def _free_port() -> Callable[[], int]:
    return free_port


@pytest.fixture(scope="session")
def proxies() -> object:
    """tests/proxies.py: Caddy and nginx before a server."""
    return beside("proxies")


@pytest.fixture(scope="session")
def standby_module() -> Any:
    """tests/standby.py: a streaming replica of PostgreSQL."""
    return beside("standby")


@pytest.fixture(scope="session")
def prometheus(proxies: Any) -> Any:
    """tests/prometheus.py: a real Prometheus with rules of a test's."""
    if proxies.find("prometheus") is None:
        pytest.skip("prometheus is missing; install it with `python3 ansible/demo/packages.py test`")
    return beside("prometheus")


@pytest.fixture(scope="session")
def object_stores() -> Any:
    """tests/object_stores.py: real object stores, and the proxy before them."""
    return beside("object_stores")


@pytest.fixture(scope="session")
def s3(object_stores, tmp_path_factory) -> Iterator:
    """A running S3 server; `s3.settings(prefix)` is what a server needs to use it."""
    yield from running(object_stores.S3Server(tmp_path_factory.mktemp("s3"), free_port()))


@pytest.fixture(scope="session")
def azure(object_stores, tmp_path_factory) -> Iterator:
    """The same for Azure."""
    if missing := object_stores.AzureServer.missing():
        pytest.skip(missing)
    yield from running(object_stores.AzureServer(tmp_path_factory.mktemp("azure"), free_port()))


def running(server: Any) -> Iterator[Any]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def oidc() -> Any:
    """tests/oidc.py: the real OpenID Connect provider, and who stands before it."""
    return beside("oidc")


@pytest.fixture(scope="session")
def oidc_provider(oidc, tmp_path_factory) -> Iterator[Any]:
    """The running provider; `know(sub, **claims)` makes somebody known there."""
    provider = oidc.Provider(tmp_path_factory.mktemp("oidc"), free_port())
    yield provider
    provider.stop()


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable:
    """`wait_until(condition, timeout_s)` polls until the condition holds, and fails after the time."""
    return wait_until


def wait_until(holds: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {holds}"
        time.sleep(0.05)


@dataclass
class RobotSide:
    """One robot's agent without an arm: real settings, a real spool, and the commands that use them."""

    config: Path
    settings: AgentSettings

    @property
    def spool(self) -> Spool:
        return build_spool(self.settings)

    def record(self, ticks: int = 40, height: int = 48, width: int = 64) -> str:
        """One episode through the real recorder, published into the spool; returns its id."""
        robot = FakeRobot(self.settings.robot_id, height=height, width=width)
        policy = PolicyInfo("lab/act-cube", "c" * 40, "d" * 64, "act", {"config.json": "e" * 64})
        started = time.time_ns(), time.monotonic_ns()
        info = EpisodeInfo(uuid.uuid4().hex, robot.info, policy, "Pick up the cube", 30.0, "0.1.0", *started, seed=3)
        handle = RecorderHandle(RecorderConfig(self.settings.state_dir, robot.info, ring_slots=ticks + 4))
        handle.start()
        handle.sink.begin(info)
        for tick in range(ticks):
            seen = robot.observe()
            sent = robot.send(np.full(6, tick, np.float32))
            frame = Frame(seen, sent + 0.5, sent, started[1] + tick * 33_333_333, started[0] + tick * 33_333_333, 0, 0)
            assert handle.sink.add(frame), "the ring has room for all"
        handle.sink.end(Outcome.SUCCESS, False, "task done")
        handle.close()
        return info.episode_id


@pytest.fixture
def robot_side(tmp_path: Path) -> Callable[..., RobotSide]:
    def make(server_url: str, robot_id: str = "robot-1", **courier: object) -> RobotSide:
        values = {
            "robot_id": robot_id,
            "server_url": server_url,
            "state_dir": str(tmp_path / robot_id),
            "courier": {"metrics_port": 0, "retry_max_s": 0.5, "camera_s": 0.2} | courier,
        }
        config = tmp_path / f"{robot_id}.yml"
        config.write_text(yaml.safe_dump(values))
        return RobotSide(config, load(config))

    return make


@pytest.fixture
def server_config(server_settings: dict, tmp_path: Path) -> Path:
    path = tmp_path / "server.yml"
    path.write_text(yaml.safe_dump(server_settings))
    return path


@pytest.fixture
def server_cli(server_config: Path) -> Callable[..., str]:
    """Runs one of the server's commands; returns what it printed."""

    def run(*words: str | Path) -> str:
        command = server_command(*words, "--config", server_config)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return run


@pytest.fixture
def enrolled(robot_side: Callable[..., RobotSide], server_cli: Callable[..., str]) -> Callable[..., RobotSide]:
    """A robot that enrolled with a code of the server's own command line."""

    def make(server_url: str, robot_id: str = "robot-1", **courier: object) -> RobotSide:
        side = robot_side(server_url, robot_id, **courier)
        code = server_cli("enrol-code", robot_id)
        subprocess.run(agent_command("enrol", "--config", side.config), input=code, text=True, check=True)
        return side

    return make


@pytest.fixture(name="agent_command")
def _agent_command() -> Callable[..., list[str]]:
    return agent_command


def agent_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "lefleet_agent", *map(str, arguments)]
