"""500 robots that say every five seconds how they are, over HTTP, each with its own credential: a process of its own.

Reads one line of JSON, its job, from standard input; answers `ready` once every robot has spoken. A further line `ID`
lets that robot speak at once, with another state; the answer is the moment (time.time()) just before it was sent. The
line `spoken` asks how many heartbeats were answered so far.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx

EVERY_S = 5.0
_JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
_MOTORS = {
    "temperature_celsius": 36.0,
    "voltage_volts": 5.1,
    "current_amperes": 0.12,
    "load_ratio": 0.2,
    "errors_total": 0.0,
}
STATES = ("resetting", "running")


def metrics(turn: int) -> str:
    """As long as a real arm's text, about 10 kB, with temperatures that wander."""
    buckets = "".join(f'lefleet_control_lateness_seconds_bucket{{le="{n / 1e4}"}} {n + turn}.0\n' for n in range(150))
    lines = [
        f'lefleet_motor_{name}{{joint="{joint}"}} {value + (turn % 3 if name.startswith("temp") else 0)}\n'
        for name, value in _MOTORS.items()
        for joint in _JOINTS
    ]
    return buckets + "".join(lines)


def heartbeat(number: int, turn: int, state: str) -> dict[str, Any]:
    late = 3.0 + (number + turn) % 7
    return {
        "state": state,
        "policy": {"repo": f"lab/act-{number % 5}", "commit": f"{number % 3}" * 40, "digest": "d" * 64, "type": "act"},
        "loop": {
            "hz": 29.5 + (turn % 5) / 10, "lateness_ms_p50": 0.3, "lateness_ms_p99": late, "lateness_ms_max": 9.0,
            "ticks": 150 * turn, "late": 0,
        },
        "spool": {"episodes": turn % 4, "bytes": 10**7 * (turn % 40), "budget_bytes": 2 * 10**9},
        "disk": {"free_bytes": 2 * 10**11 - 10**8 * turn, "total_bytes": 5 * 10**11},
        "task": "Put the block on the disc",
        "agent_version": "0.1.0",
        "cameras": ["front", "wrist"],
        "metrics": metrics(turn),
    }  # fmt: skip


class Robots:
    def __init__(self, client: httpx.AsyncClient, tokens: dict[str, str]) -> None:
        self._client = client
        self._tokens = list(tokens.items())
        self._turn = 0
        self._spoken = 0
        self._odd: dict[str, str] = {}

    async def speak(self, number: int) -> None:
        robot_id, token = self._tokens[number]
        body = heartbeat(number, self._turn, self._odd.get(robot_id, "running"))
        headers = {"Authorization": f"Bearer {token}"}
        (await self._client.post("/api/v1/robot/heartbeat", json=body, headers=headers)).raise_for_status()
        self._spoken += 1

    async def turn(self) -> None:
        """Every robot once, evenly over the interval; none waits for another's answer."""
        self._turn += 1
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as speaking:
            for number in range(len(self._tokens)):
                speaking.create_task(self.speak(number))
                due_s = began_s + EVERY_S * (number + 1) / len(self._tokens)
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def obey(self) -> None:
        """Lets one robot change its state, as the other end of the pipe asks."""
        numbers = {robot_id: number for number, (robot_id, _) in enumerate(self._tokens)}
        while line := await asyncio.to_thread(sys.stdin.readline):
            robot_id = line.strip()
            if robot_id == "spoken":
                print(json.dumps({"spoken": self._spoken}), flush=True)
                continue
            self._odd[robot_id] = STATES[self._odd.get(robot_id) == STATES[0]]
            sent_s = time.time()
            await self.speak(numbers[robot_id])
            print(json.dumps({"state": self._odd[robot_id], "sent_s": sent_s}), flush=True)


async def main(port: int, tokens: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        robots = Robots(client, tokens)
        await robots.turn()
        print("ready", flush=True)
        obeying = asyncio.create_task(robots.obey())
        while not obeying.done():
            await robots.turn()


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.stdin.readline())))
