"""What little it takes to store a heartbeat: a bare ASGI function, msgspec, one commit for all of a tenth of a second.

The second floor of `heartbeats`. It looks at no field but three, keeps the fleet's credentials in memory for good, and
has no limits, headers, metrics, log or errors.
"""

import asyncio
import json
import sys
from hashlib import sha256
from typing import Any

import asyncpg
import msgspec
import uvicorn
from starlette.types import Receive, Scope, Send

GATHER_S = 0.1
_ANSWER = b'{"interval_s":5.0}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]
_TABLE = """
CREATE TEMPORARY TABLE said (robot_id text, state text, episode_id text, heartbeat jsonb, metrics text);
INSERT INTO robot_status (robot_id, received_at, state, heartbeat, metrics)
    SELECT id, now(), '', '{}', '' FROM robots ON CONFLICT DO NOTHING;
"""
_STORE = """
UPDATE robot_status SET received_at = now(), state = said.state, episode_id = said.episode_id,
    heartbeat = said.heartbeat, metrics = said.metrics FROM said WHERE robot_status.robot_id = said.robot_id
"""

type Row = tuple[str, str, str | None, str, str]


class Fleet:
    """Heartbeats on their way, by robot."""

    def __init__(self) -> None:
        self._robots: dict[bytes, str] = {}
        self._rows: dict[str, Row] = {}
        self._stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def store_for_ever(self) -> None:
        connection = await asyncpg.connect(**json.loads(sys.argv[2]))
        self._robots = {row["token_hash"]: row["id"] for row in await connection.fetch("SELECT * FROM robots")}
        await connection.execute(_TABLE)
        while True:
            await asyncio.sleep(GATHER_S)
            if self._rows:
                rows, stored = self._rows, self._stored
                self._rows, self._stored = {}, asyncio.get_running_loop().create_future()
                async with connection.transaction():
                    await connection.copy_records_to_table("said", records=list(rows.values()))
                    await connection.execute(_STORE)
                    await connection.execute("TRUNCATE said")
                stored.set_result(None)

    def store(self, authorization: bytes, body: bytes) -> asyncio.Future[None]:
        """Done once it is committed."""
        robot_id = self._robots[sha256(authorization.removeprefix(b"Bearer ")).digest()]
        said = msgspec.json.decode(body, type=dict[str, Any])
        metrics = said.pop("metrics", "")
        text = msgspec.json.encode(said).decode()
        self._rows[robot_id] = (robot_id, said["state"], said.get("episode_id"), text, metrics)
        return self._stored


class App:
    """POST /heartbeat, and anything else is ready."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self._fleet = Fleet()
            storing = asyncio.create_task(self._fleet.store_for_ever())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            storing.cancel()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/heartbeat":
            await self._fleet.store(dict(scope["headers"])[b"authorization"], body)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _ANSWER})


if __name__ == "__main__":
    uvicorn.run(App(), port=int(sys.argv[1]), log_config=None, access_log=False, timeout_keep_alive=75)
