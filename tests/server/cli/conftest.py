"""The real `lefleet` as people and scripts run it, against a real `lefleet-server serve`."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from lefleet_server.accounts.models import Role
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


class Person:
    """Somebody at a terminal of their own: runs the real `lefleet` as a process, without a terminal."""

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

    async def ok(self, *words: object, given: str = "") -> Done:
        done = await self(*words, given=given)
        assert done.status == 0, (words, done)
        return done


@pytest.fixture
async def served(server_config: Path, settings: Settings, services: Services) -> AsyncIterator[str]:
    """Address of a `lefleet-server serve` process; `services` looks into the same database and store."""
    with (server_config.parent / "serve.log").open("wb") as log:
        command = [sys.executable, "-m", "lefleet_server", "serve", "--config", str(server_config)]
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{settings.port}"
    try:
        async with asyncio.timeout(120), httpx.AsyncClient() as client:
            while process.returncode is None and not await answers(client, f"{url}/readyz"):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)
        assert process.returncode is None, (server_config.parent / "serve.log").read_text()
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


async def answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


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
