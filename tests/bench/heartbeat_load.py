"""Many robots over plain sockets, one connection each, in a process that costs little beside the server it measures.

Started as a process: connects, prints `ready`, then for each line on standard input (a JSON phase) prints its result.
"""

import asyncio
import json
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)


SHARES = (("p50", 0.5), ("p99", 0.99))


@dataclass(slots=True)
class Load:
    """Who is asked when, and what came of it."""

    waiting: "deque[Robot]" = field(default_factory=deque)
    going: bool = False
    latencies_s: list[float] = field(default_factory=list)
    wrong: str = ""

    def answered(self, robot: "Robot", seconds: float, status: bytes) -> None:
        self.latencies_s.append(seconds)
        if status != b"200":
            self.wrong = f"an answer was {status.decode()}"
        if self.going:
            self.waiting.append(robot)
            self.waiting.popleft().send()


class Robot(asyncio.Protocol):
    def __init__(self, request: bytes, load: Load) -> None:
        self._request = request
        self._load = load
        self._sent_s = 0.0
        self._answer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.wrong = f"the server closed a connection: {exc}"

    def send(self) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            self._answer = b""
            self._load.answered(self, time.perf_counter() - self._sent_s, head[9:12])


async def connect(port: int, path: str, tokens: list[str], body: str) -> tuple[list[Robot], Load]:
    loop, load, robots = asyncio.get_running_loop(), Load(), []
    for token in tokens:
        head = HEAD.format(path=path, token=token, length=len(body.encode()))
        robot = Robot((head + body).encode(), load)
        await loop.create_connection(lambda robot=robot: robot, "127.0.0.1", port)
        robots.append(robot)
    return robots, load


async def flat_out(robots: list[Robot], load: Load, seconds: float, at_once: int, everyone: bool = False) -> None:
    """As many as the server answers: `at_once` are always on their way, each robot in turn. `everyone`: all of them."""
    load.waiting = deque(robots[at_once:])
    load.going = True
    for robot in robots[:at_once]:
        robot.send()
    await asyncio.sleep(seconds)
    while everyone and len(load.latencies_s) < len(robots) and not load.wrong:  # noqa: ASYNC110 - no event per answer
        await asyncio.sleep(0.05)
    load.going = False


async def at_their_pace(robots: list[Robot], load: Load, seconds: float, interval_s: float) -> None:
    """Each robot every `interval_s`, spread evenly, whether or not the server keeps up."""
    load.going = False
    begun_s, sent = time.perf_counter(), 0
    while (passed_s := time.perf_counter() - begun_s) < seconds:
        due = int(passed_s / interval_s * len(robots))
        for number in range(sent, due):
            robots[number % len(robots)].send()
        sent = due
        await asyncio.sleep(0.002)


async def main(port: int, path: str, tokens: list[str], body: str) -> None:
    robots, load = await connect(port, path, tokens, body)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        phase = json.loads(line)
        load.latencies_s = []
        begun_s = time.perf_counter()
        if "at_once" in phase:
            await flat_out(robots, load, **phase)
        else:
            await at_their_pace(robots, load, **phase)
        answered, seconds = len(load.latencies_s), time.perf_counter() - begun_s
        await asyncio.sleep(1)  # the last answers of this phase are none of the next
        found = sorted(load.latencies_s)
        percentiles = {name: found[int(len(found) * share)] * 1e3 for name, share in SHARES if found}
        wrong = load.wrong or ("" if found else f"no answer within {seconds:.1f} s")
        told = {"per_s": answered / seconds, "answered": len(found), "wrong": wrong} | percentiles
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    uvloop.run(main(**job))
