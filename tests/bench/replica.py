"""Long readings beside the robots' writes: by one PostgreSQL, and with a streaming replica of it."""

import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGINT, SIGTERM
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg  # type: ignore[import-untyped]
import episode_rows
import numpy as np
import yaml
from episodes_list import CASES, Draw, log_in
from figure import Column, Figure, Row, Sample, compare
from options import Options
from processes import BenchError, cpu_s, run_worker, wait_until, worker_main
from upload_servers import answers, free_port, lefleet, running, server

from lefleet_server import cluster

sys.path.append(str(Path(__file__).parents[1]))

import standby

NAME = "replica"
ROBOTS = 30
WRITES_S = 200
"""Commits a second, each by itself. Two thousand robots' heartbeats are fewer: the server commits them in groups."""
LISTS = 20
"""Pages of the list, each with another filter, to one comparison."""
LIST = Column("list_p50", "list p50 ms", 1), Column("list_p99", "list p99 ms", 1)
COMPARE = Column("compare_p50", "comparison p50 ms", 0)
WRITE = Column("write_p50", "write p50 ms", 2), Column("write_p99", "write p99 ms", 1)
PRIMARY = Column("primary_ms", "CPU ms of the primary for each reading", 2)
THERE = Column("there", "read at the replica, %", 0)
QUIET, ONE, BOTH = "one PostgreSQL, nobody writes", "one PostgreSQL", "with a replica"


def steps(options: Options) -> int:
    return 3 + 3 * options.rounds


def size(options: Options) -> int:
    return 20_000 if options.quick else 1_000_000


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    seconds = 4.0 if options.quick else 20.0
    with TemporaryDirectory(dir=options.folder) as scratch, ExitStack() as stack:
        folder = Path(scratch)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own when we are root
        alone = stack.enter_context(lefleet(folder / "lefleet", 0))
        primary = cluster.read(folder / "lefleet" / "postgres").connection_arguments()
        tell("episodes")
        asyncio.run(_fill(primary, size(options)))
        tell("the replica")
        copy = _replica(folder, primary, stack)
        tell("the server with it")
        port = _second(folder, primary, copy, stack)
        cookie = log_in(alone.port, folder / "lefleet" / "server.yml")
        database = alone.database_pid or 0
        found: dict[str, list[Sample]] = {}
        for number in range(options.rounds):
            copy.end(SIGINT)
            for name, at, writes in ((QUIET, alone.port, 0), (ONE, alone.port, WRITES_S), (BOTH, port, WRITES_S)):
                tell(f"{name}, turn {number + 1}")
                if name == BOTH:
                    copy.start()
                    asyncio.run(_caught_up(primary, copy))
                    before = asyncio.run(_answered(copy))
                sample = _turn(at, cookie, primary, database, seconds, writes, number)
                if name == BOTH:
                    sample["there"] = 100 * (asyncio.run(_answered(copy)) - before) / sample["readings"]
                found.setdefault(name, []).append(sample)
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    columns = (*LIST, COMPARE, *WRITE, PRIMARY, THERE)
    return Figure(
        NAME,
        f"{LISTS} pages of the list with other filters, then a comparison, and again, over {size(options):,} episodes "
        f"by HTTP, with {WRITES_S} commits a second beside; {seconds:g} s a turn, median of {options.rounds}",
        columns,
        rows,
        tuple(
            comparison
            for column in (LIST[0], LIST[1], COMPARE, WRITE[1], PRIMARY)
            for comparison in compare("with a replica", rows, BOTH, ONE, column, lower_is_better=True)
        ),
        (
            "Primary, replica, both servers, the writer and the reader share this machine's cores: what another adds "
            "is not in the times. What the primary is relieved of is. The replica runs during its own row only. Each "
            "reading had all that was committed before it; PostgreSQL counts where, and tells of the last second late.",
        ),
    )


async def _fill(primary: dict[str, Any], rows: int) -> None:
    connection = await asyncpg.connect(**primary)
    try:
        await episode_rows.fill(connection, rows, ROBOTS)
        await connection.execute("CREATE TABLE written (id bigserial PRIMARY KEY, body text)")
        # What a replica has missed while it did not run.
        await connection.execute("ALTER SYSTEM SET wal_keep_size = '1GB'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


def _replica(folder: Path, primary: dict[str, Any], stack: ExitStack) -> standby.Standby:
    home = folder / "replica"
    home.mkdir()
    made = standby.Standby(home, primary, ["-c", "shared_buffers=64MB", "-c", "hot_standby_feedback=on"])
    stack.callback(made.end)
    made.start()
    return made


def _second(folder: Path, primary: dict[str, Any], copy: standby.Standby, stack: ExitStack) -> int:
    """Port of a server that reads there."""
    port = free_port()
    config = folder / "second.yml"
    settings = {
        "state_dir": str(folder / "second"),
        "port": port,
        "database_url": _url(primary, primary["host"]),
        "database_replica_url": _url(primary, str(copy.folder)),
    }
    config.write_text(yaml.safe_dump(settings))
    stack.enter_context(running(server("serve", config), folder / "second.log", SIGTERM))
    wait_until(lambda: answers(port, "/readyz"), "the second lefleet-server", 60)
    return port


def _url(arguments: dict[str, Any], folder: str) -> str:
    account = f"{arguments['user']}:{arguments['password']}"
    return f"postgresql://{account}@/{cluster.DATABASE}?host={quote(folder, safe='')}"


def _turn(
    port: int, cookie: str, primary: dict[str, Any], database: int, seconds: float, writes_s: int, seed: int
) -> Sample:
    """One reader, one connection, one question after another, while a process of its own writes."""
    with ThreadPoolExecutor(1) as pool:
        before_s = cpu_s(database)
        writer = pool.submit(
            run_worker, "replica.py", seconds + 60, primary=primary, seconds=seconds, writes_s=writes_s
        )
        waited = _read(port, cookie, time.monotonic() + seconds, Draw(seed))
        told = writer.result()
        spent_s = cpu_s(database) - before_s
    lists, comparisons = (1e3 * np.array(waited[kind]) for kind in ("list", "comparison"))
    sample = {
        "list_p50": float(np.percentile(lists, 50)),
        "list_p99": float(np.percentile(lists, 99)),
        "compare_p50": float(np.percentile(comparisons, 50)),
        "primary_ms": 1e3 * spent_s / (len(lists) + len(comparisons)),
        "readings": len(lists) + len(comparisons),
    }
    return sample | told


def _read(port: int, cookie: str, until_s: float, draw: Draw) -> dict[str, list[float]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    waited: dict[str, list[float]] = {"list": [], "comparison": []}
    cases = list(CASES.values())
    while time.monotonic() < until_s or not waited["comparison"]:
        asked = sum(map(len, waited.values()))
        if asked % (LISTS + 1) == LISTS:
            kind, path = "comparison", "/api/v1/comparison"
        else:
            words = cases[asked % len(cases)](draw)
            kind, path = "list", f"/api/v1/episodes?{urlencode({k: str(v) for k, v in words.items()})}"
        began_s = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        body = answer.read()
        waited[kind].append(time.perf_counter() - began_s)
        if answer.status != 200:
            raise BenchError(f"{path}: {answer.status} {body.decode()}")
    connection.close()
    return waited


async def _caught_up(primary: dict[str, Any], copy: standby.Standby) -> None:
    flushed = await standby.asked(primary, "SELECT pg_current_wal_flush_lsn()::text")
    caught_up = f"SELECT pg_last_wal_replay_lsn() >= '{flushed}'::pg_lsn"
    async with asyncio.timeout(120):
        while not await standby.asked(copy.arguments, caught_up):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)


async def _answered(copy: standby.Standby) -> int:
    """Transactions that it has ended."""
    asked = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    return int(str(await standby.asked(copy.arguments | {"database": cluster.DATABASE}, asked)))


def work(primary: dict[str, Any], seconds: float, writes_s: int) -> dict[str, Any]:
    """In the worker: a commit of a kilobyte so often, and how long each took."""
    return asyncio.run(_write(primary, seconds, writes_s)) if writes_s else {}


async def _write(primary: dict[str, Any], seconds: float, writes_s: int) -> dict[str, Any]:
    connection = await asyncpg.connect(**primary)
    took_s, began_s = [], time.monotonic()
    while (due_s := began_s + len(took_s) / writes_s) < began_s + seconds:
        await asyncio.sleep(due_s - time.monotonic())
        at_s = time.perf_counter()
        await connection.execute("INSERT INTO written (body) VALUES ($1)", "x" * 1024)
        took_s.append(time.perf_counter() - at_s)
    await connection.close()
    p50, p99 = 1e3 * np.percentile(took_s, [50, 99])
    return {"write_p50": float(p50), "write_p99": float(p99)}


if __name__ == "__main__":
    worker_main(work)
