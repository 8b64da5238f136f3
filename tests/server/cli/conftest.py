"""The real `lefleet` as people and scripts run it, against a real `lefleet-server serve`.

One server and one database for a module's tests, since a start takes seconds; each test finds the
database empty, but for the audit log.
"""

import asyncio
import json
import os
import pty
import sys
import termios
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg
import httpx
import pytest
import yaml
from fastapi import FastAPI

from lefleet_server.accounts.models import Role
from lefleet_server.app import create_app
from lefleet_server.config import Settings
from lefleet_server.services import Services


@dataclass
class Done:
    """What a command of `lefleet` did."""

    status: int
    out: str
    err: str

    @property
    def items(self) -> list[dict]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def item(self) -> dict:
        (one,) = self.items
        return one


class Terminal:
    """A terminal in which a command runs, as its person sees it."""

    def __init__(self, leader: int, process: asyncio.subprocess.Process) -> None:
        self._leader = leader
        self._process = process
        self.shown = b""

    async def until(self, words: bytes) -> None:
        """Reads until they were shown."""
        async with asyncio.timeout(60):
            while words not in self.shown:
                self.shown += await asyncio.to_thread(os.read, self._leader, 1000)

    def type(self, text: str) -> None:
        """A line, shown unless the command made the terminal silent."""
        os.write(self._leader, text.encode() + b"\n")

    async def type_unseen(self, text: str) -> None:
        """A line once the terminal is silent: what is typed before would be thrown away."""
        async with asyncio.timeout(60):
            while termios.tcgetattr(self._leader)[3] & termios.ECHO:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.01)
        self.type(text)

    async def status(self) -> int:
        """The command's, once it has ended."""
        return await asyncio.wait_for(self._process.wait(), 60)


class Person:
    """Somebody with a home of their own: runs the real `lefleet` as a process, without a terminal unless they ask."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LEFLEET_")}
        self.environment = kept | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")} | environment

    @property
    def profiles(self) -> Path:
        return self.home / "config" / "lefleet" / "profiles.yml"

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "lefleet_server.cli", *map(str, words)]

    async def start(self, *words: object, **options: object) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": self.environment} | options
        return await asyncio.create_subprocess_exec(*self.command(*words), **options)

    async def __call__(self, *words: object, given: str = "", **options: object) -> Done:
        process = await self.start(*words, **options)
        out, err = await asyncio.wait_for(process.communicate(given.encode()), 120)
        assert b"Traceback" not in err, err.decode()
        return Done(process.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def at_terminal(self, *words: object) -> AsyncIterator[Terminal]:
        leader, follower = pty.openpty()
        files = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
        process = await self.start(*words, **files, start_new_session=True)
        os.close(follower)
        try:
            yield Terminal(leader, process)
        finally:
            if process.returncode is None:  # or the thread that reads would wait for good
                process.kill()
                await process.wait()
            os.close(leader)

    async def ok(self, *words: object, given: str = "") -> Done:
        done = await self(*words, given=given)
        assert done.status == 0, (words, done)
        return done


@pytest.fixture(scope="module")
async def database(postgres: dict) -> AsyncIterator[dict]:
    """asyncpg's arguments for a migrated database of this module's own."""
    name = f"cli_{uuid.uuid4().hex}"
    await execute(postgres | {"database": "postgres"}, f"CREATE DATABASE {name} TEMPLATE lefleet")
    yield postgres | {"database": name}
    await execute(postgres | {"database": "postgres"}, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def server_settings(database: dict, free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> dict:
    host, user = quote(database["host"], safe=""), f"{database['user']}:{database['password']}"
    return {
        "state_dir": str(tmp_path_factory.mktemp("server")),
        "database_url": f"postgresql://{user}@/{database['database']}?host={host}",
        "port": free_port(),
        "min_free_bytes": 0,
        "log_format": "console",
        "heartbeat_interval_s": 60,  # a robot that spoke once is online for a test, however slow this machine is
    }


@pytest.fixture(scope="module")
def settings(server_settings: dict) -> Settings:
    return Settings(**server_settings)


@pytest.fixture(scope="module")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings, dashboard=False)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="module")
async def running(server_settings: dict, settings: Settings) -> AsyncIterator[str]:
    """Address of a `lefleet-server serve` process."""
    config, log_file = settings.state_dir / "server.yml", settings.state_dir / "serve.log"
    config.write_text(yaml.safe_dump(server_settings))
    with log_file.open("wb") as log:
        command = [sys.executable, "-m", "lefleet_server", "serve", "--config", str(config)]
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{settings.port}"
    try:
        async with asyncio.timeout(120), httpx.AsyncClient() as client:
            while process.returncode is None and not await answers(client, f"{url}/readyz"):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)
        assert process.returncode is None, log_file.read_text()
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


@pytest.fixture
async def services(app: FastAPI, database: dict) -> AsyncIterator[Services]:
    yield app.state.services
    await execute(database, EMPTY)


@pytest.fixture
def served(running: str, services: Services) -> str:
    """Address of the server; `services` looks into the same database and store."""
    return running


# Without the audit log, which nobody may empty: its entries of earlier tests stay.
EMPTY = """
DO $$ BEGIN EXECUTE (
    SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') FROM pg_tables
    WHERE schemaname = 'public' AND tablename NOT IN ('alembic_version', 'audit_log')
); END $$
"""


async def execute(arguments: dict, statements: str) -> None:
    connection = await asyncpg.connect(**arguments)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


class Network:
    """Between lefleet and its server: may cut a connection after so many bytes, change one, or stop to pass any."""

    def __init__(self) -> None:
        self.cuts: list[int] = []
        """Bytes after which the next connections are cut, each once."""
        self.spoils = False
        """Whether every large piece arrives with a bit that is not what was sent."""
        self.stops_after: int | None = None
        """Bytes of an answer after which the rest waits for `goes_on`."""
        self.goes_on = asyncio.Event()
        self.asked: list[bytes] = []
        """The heads of the requests."""
        self.passed = 0

    async def open(self, url: str) -> tuple[asyncio.Server, str]:
        self._target = int(url.rpartition(":")[2])
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._ask(reader, back_writer), self._answer(back_reader, writer))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                self.asked.append(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count = 0
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.spoils and len(data) > 10_000:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                if self.cuts and count + len(data) > self.cuts[0]:
                    writer.write(data[: max(0, self.cuts.pop(0) - count)])
                    await writer.drain()
                    break
                count += len(data)
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
                if self.stops_after is not None and count > self.stops_after:
                    await self.goes_on.wait()
        writer.close()


@pytest.fixture
async def network(served):
    made = Network()
    server, made.url = await made.open(served)
    yield made
    server.close()


@pytest.fixture
def stranger(tmp_path: Path) -> Callable[..., Person]:
    """`stranger(LEFLEET_URL=...)`: somebody whom no server knows yet; each has a home of their own."""
    return lambda **environment: Person(tmp_path / f"home-{uuid.uuid4().hex[:6]}", **environment)


@pytest.fixture
def with_token(served: str, person: Callable, stranger: Callable[..., Person], tmp_path: Path) -> Callable:
    """Somebody of a role, with an API token in a file, as a script has it."""

    async def make(role: Role = Role.OPERATOR, url: str | None = None, scopes: tuple[str, ...] = ()) -> Person:
        client = await person(role)
        body = {"name": "test", "scopes": scopes or ["read", "operate", "admin"]}
        made = (await client.post("/api/v1/tokens", json=body)).raise_for_status().json()
        await client.aclose()
        file = tmp_path / f"token-{made['id']}"
        file.write_text(made["token"] + "\n")
        return stranger(LEFLEET_URL=url or served, LEFLEET_TOKEN_FILE=str(file))

    return make
