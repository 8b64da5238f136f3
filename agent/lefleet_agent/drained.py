"""Waiting until a robot that was asked to rest does, and until the server has all that it recorded."""

import json
import time
from pathlib import Path
from typing import Any

from lefleet_agent.liveness import health
from lefleet_agent.recording import journal
from lefleet_agent.spool import Spool

# The first may have been written before the request was there, the second while control was looking.
WORDS = 3


class DrainError(Exception):
    """It did not come to rest in time; the message says what it is at."""


def wait_until_drained(state_dir: Path, wait_s: float) -> str:
    """Wait until no episode runs; returns the state that control rests in: `drained`, `stopped`, or `absent`.

    Raises DrainError, also when control is silent: then nobody can say whether the arm moves.
    """
    run, deadline = state_dir / "run", time.monotonic() + wait_s
    words: set[int] = set()
    while True:
        said = _read(run / "control.json")
        state = str(said.get("state", "absent"))
        now = health(run, "control", time.monotonic_ns())
        words = words | {int(said.get("wall_ns", 0))} if now.alive and state == "drained" else set()
        if state in {"absent", "stopped"} or len(words) >= WORDS:
            return state
        if time.monotonic() > deadline:
            raise DrainError(
                f"not drained after {wait_s:g} s: {f'control is {state}' if now.alive else now.detail}; the request "
                "stands until `lefleet-agent resume`"
            )
        time.sleep(0.2)


def wait_until_delivered(state_dir: Path, spool: Spool, wait_s: float) -> int:
    """Wait until the server has every episode that it will take; returns how many it refused, which stay here.

    Raises DrainError, which says how many wait and whether the courier lives.
    """
    deadline = time.monotonic() + wait_s
    while True:
        recorded = len(list((state_dir / "journal").glob(f"*{journal.SUFFIX}")))
        stats = spool.stats()
        waiting = recorded + stats.waiting_episodes
        if waiting == 0:
            return stats.refused_episodes
        if time.monotonic() > deadline:
            courier = health(state_dir / "run", "courier", time.monotonic_ns())
            why = "; `lefleet-agent status` and the courier's log say more" if courier.alive else f"; {courier.detail}"
            raise DrainError(f"{waiting} episodes still wait for the server after {wait_s:g} s{why}")
        time.sleep(0.5)


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return values
