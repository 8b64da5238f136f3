"""What the usual stack does with a heartbeat: FastAPI, a pydantic model, the robot by its token, an upsert, a commit.

The floor of `heartbeats`: no group commit, no cheaper way for one route, otherwise the same packages and settings.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Annotated, Any

import asyncpg
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, ConfigDict


class Heartbeat(BaseModel):
    model_config = ConfigDict(extra="allow")

    state: str
    episode_id: str | None = None
    metrics: str = ""


@asynccontextmanager
async def pool(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(**json.loads(sys.argv[2]), min_size=10, max_size=10) as made:
        app.state.pool = made
        yield


app = FastAPI(lifespan=pool)


async def robot_of(request: Request, authorization: Annotated[str, Header()] = "") -> str:
    token = sha256(authorization.removeprefix("Bearer ").encode()).digest()
    found = await request.app.state.pool.fetchval("SELECT id FROM robots WHERE token_hash = $1", token)
    if found is None:
        raise HTTPException(401)
    return str(found)


@app.get("/readyz")
async def ready() -> dict[str, Any]:
    return {}


@app.post("/heartbeat")
async def heartbeat(body: Heartbeat, robot: Annotated[str, Depends(robot_of)], request: Request) -> dict[str, Any]:
    said = body.model_dump_json(exclude={"metrics"})
    await request.app.state.pool.execute(
        "INSERT INTO robot_status (robot_id, received_at, state, episode_id, heartbeat, metrics) "
        "VALUES ($1, now(), $2, $3, $4, $5) ON CONFLICT (robot_id) DO UPDATE SET received_at = excluded.received_at, "
        "state = excluded.state, episode_id = excluded.episode_id, heartbeat = excluded.heartbeat, "
        "metrics = excluded.metrics",
        robot, body.state, body.episode_id, said, body.metrics,
    )  # fmt: skip
    return {"interval_s": 5.0}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, timeout_keep_alive=75)
