"""Durable heartbeats of 1,000 and 10,000 connected robots: each is answered once PostgreSQL has committed it."""

import asyncio
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
from figure import Column, Figure, Row, Sample, compare
from heartbeat_body import body
from options import Options
from processes import BenchError, Unavailable, cpu_s, tail, wait_until
from upload_servers import UploadServer, answers, free_port, lefleet, running

from lefleet_server.config import Settings
from lefleet_server.db import connection_arguments

NAME = "heartbeats"
ROBOTS = (1000, 10_000)
INTERVAL_S = 5.0
AT_ONCE = 256
PER_S, PER_CPU_S = Column("per_s", "heartbeats/s", 0), Column("per_cpu_s", "per server CPU s", 0)
COLUMNS = (
    PER_S, PER_CPU_S, Column("per_all_cpu_s", "with the database's CPU", 0), Column("p50", "flat out p50 ms"),
    Column("p99", "p99 ms"), Column("paced_p50", "every 5 s each p50 ms"), Column("paced_p99", "p99 ms"),
)  # fmt: skip
OURS, USUAL, LEAN = "LeFleet", "the usual stack (floor)", "msgspec and group commit (floor)"
PATHS = {USUAL: "/heartbeat", LEAN: "/heartbeat", OURS: "/api/v1/robot/heartbeat"}
SCRIPTS = {USUAL: "usual_stack.py", LEAN: "lean_stack.py"}
CASES = [(number, True) for number in ROBOTS] + [(ROBOTS[0], False)]


def steps(options: Options) -> int:
    return 1 + options.rounds * len(cases(options)) * len(PATHS)


def cases(options: Options) -> list[tuple[int, bool]]:
    return [(100, True)] if options.quick else CASES


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    allow_connections(max(ROBOTS))
    tell("starting the servers")
    with TemporaryDirectory(dir=options.folder) as scratch, ExitStack() as stack:
        folder = Path(scratch)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own when we are root

        def fill() -> None:
            asyncio.run(add_robots(database(folder / "lefleet"), max(ROBOTS)))

        ours = stack.enter_context(lefleet(folder / "lefleet", 0, fill))
        floors = {name: stack.enter_context(floor(script, ours, folder)) for name, script in SCRIPTS.items()}
        found: dict[str, list[Sample]] = {}
        for _ in range(options.rounds):
            for robots, metrics in cases(options):
                for name, server in (floors | {OURS: ours}).items():
                    row = row_name(name, robots, metrics)
                    tell(row)
                    found.setdefault(row, []).append(turn(server, PATHS[name], robots, metrics, folder, options.quick))
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    compared = [
        each
        for column, beside in ((PER_CPU_S, USUAL), (PER_CPU_S, LEAN), (PER_S, USUAL))
        for robots, metrics in cases(options)
        for each in compare(
            f"{robots:,} robots{'' if metrics else ', no metrics'}",
            rows,
            *(row_name(name, robots, metrics) for name in (OURS, beside)),
            column,
            lower_is_better=False,
        )
    ]
    return Figure(
        NAME,
        f"Durable heartbeats, one connection for each robot, median of {options.rounds}",
        COLUMNS,
        rows,
        tuple(compared),
        (
            f"A heartbeat is what an agent with two cameras and six motors sends, {len(body(True)) / 1e3:.0f} kB of "
            f"JSON of which {len(body(True)) / 1e3 - len(body(False)) / 1e3:.0f} are its metrics. Flat out: {AT_ONCE} "
            "are always on their way. One server process each; clients and database share the cores. The usual stack: "
            "FastAPI, pydantic, asyncpg's pool, one commit a heartbeat. msgspec and group commit: a bare ASGI function "
            "that checks nothing, and one commit each 100 ms.",
        ),
    )


def row_name(name: str, robots: int, metrics: bool) -> str:
    return f"{name}, {robots:,} robots" + ("" if metrics else ", no metrics")


def turn(server: UploadServer, path: str, robots: int, metrics: bool, folder: Path, quick: bool) -> Sample:
    job = {"port": server.port, "path": path, "tokens": [token_of(n) for n in range(robots)], "body": body(metrics)}
    (folder / "job.json").write_text(json.dumps(job))
    seconds = 2 if quick else 8
    with load(folder / "job.json") as client:
        # Once each, so that every connection, credential and plan is known.
        ask(client, {"seconds": 1, "at_once": min(AT_ONCE, robots), "everyone": True})
        before = spent_s(server)
        flat = ask(client, {"seconds": seconds, "at_once": min(AT_ONCE, robots)})
        web_s, database_s = (after - start for after, start in zip(spent_s(server), before, strict=True))
        paced = ask(client, {"seconds": seconds, "interval_s": INTERVAL_S})
    return {
        "per_s": flat["per_s"],
        "per_cpu_s": flat["answered"] / web_s,
        "per_all_cpu_s": flat["answered"] / (web_s + database_s),
        "p50": flat["p50"],
        "p99": flat["p99"],
        "paced_p50": paced["p50"],
        "paced_p99": paced["p99"],
    }


def spent_s(server: UploadServer) -> tuple[float, float]:
    assert server.database_pid, "both have one"
    return cpu_s(server.web_pid), cpu_s(server.database_pid)


@contextmanager
def load(job: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("heartbeat_load.py")), str(job)]
    with job.with_suffix(".log").open("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout, "was asked for"
            if process.stdout.readline() != "ready\n":
                raise BenchError(f"the robots did not connect: {tail(log)}")
            yield process
        finally:
            process.kill()
            process.communicate()


def ask(client: subprocess.Popen[str], phase: dict[str, float]) -> dict[str, Any]:
    assert client.stdin and client.stdout, "were asked for"
    client.stdin.write(json.dumps(phase) + "\n")
    client.stdin.flush()
    line = client.stdout.readline()
    if not line:
        raise BenchError("the robots ended; run heartbeat_load.py by hand to see why")
    answer: dict[str, Any] = json.loads(line)
    if answer["wrong"]:
        raise BenchError(f"a heartbeat failed: {answer['wrong']}")
    return answer


def token_of(number: int) -> str:
    return f"lfr_bench-{number:06d}"


async def add_robots(arguments: dict[str, Any], count: int) -> None:
    connection = await asyncpg.connect(**arguments)
    rows = [(f"beat-{n}", sha256(token_of(n).encode()).digest(), "bench", "0.1.0") for n in range(count)]
    await connection.copy_records_to_table("robots", records=rows, columns=["id", "token_hash", "hw", "agent_version"])
    await connection.execute("ANALYZE robots")
    await connection.close()


def database(folder: Path) -> dict[str, Any]:
    return connection_arguments(Settings(state_dir=folder / "state", postgres_dir=folder / "postgres"))


@contextmanager
def floor(script: str, ours: UploadServer, folder: Path) -> Iterator[UploadServer]:
    """On the same database."""
    port, log = free_port(), folder / f"{script}.log"
    arguments = [str(port), json.dumps(database(folder / "lefleet"))]
    with running([sys.executable, str(Path(__file__).with_name(script)), *arguments], log, signal.SIGTERM) as p:
        wait_until(lambda: answers(port, "/readyz"), f"{script} (see {log.name})", 30)
        yield UploadServer(port, p, ours.database_pid, ())


def allow_connections(count: int) -> None:
    """For this process and those that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 500
    if most != resource.RLIM_INFINITY and most < wanted:
        raise Unavailable(f"{count} connections need {wanted} open files, {most} are allowed: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if most != resource.RLIM_INFINITY else wanted, most))
