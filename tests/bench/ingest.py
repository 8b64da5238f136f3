"""Uploads to the real server, with durable receipts, beside plain nginx: MB/s and MB per second of server processor."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from episodes import EpisodeFile, another, record
from figure import Column, Figure, Row, Sample, compare
from options import Options
from processes import BenchError, cpu_s, memory_growth, run_worker, worker_main
from upload_servers import UploadServer, find_nginx, lefleet, nginx, robot_of

NAME = "ingest"
CLIENTS = 4
MB_S, MB_CPU_S = Column("mb_s", "MB/s", 0), Column("mb_cpu_s", "MB per server CPU s", 0)
COLUMNS = (MB_S, MB_CPU_S, Column("mb_all_cpu_s", "with the database's CPU", 0), Column("ms", "ms/file", 0),
           Column("grown_mb", "MB of server memory more, at most", 0))  # fmt: skip
NGINX, PIECES, WHOLE = "nginx PUT to disk (floor)", "LeFleet, tus in 4 MiB pieces", "LeFleet, tus in one piece"
LONG_NGINX = "nginx PUT to disk (floor), longer episode"
LONG = "LeFleet, tus in 32 MiB pieces (the courier's), longer episode"
SHA256, FSYNC = "SHA-256 alone, one core", "write and fsync, one file after another"
PIECE_BYTES = {NGINX: 0, PIECES: 4 << 20, WHOLE: 1 << 40, LONG_NGINX: 0, LONG: 32 << 20}
LONG_TICKS = 900
"""Half a minute, as real episodes last; the others are short, so that what a file costs shows."""


def steps(options: Options) -> int:
    return 2 + options.rounds * (len(uploads(options)) + 2)


def uploads(options: Options) -> list[str]:
    return [NGINX, PIECES] if options.quick else list(PIECE_BYTES)


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    frames, files_each, count = (20, 1, 2) if options.quick else (140, 4, CLIENTS)
    tell("recording the episodes to upload")
    with TemporaryDirectory(dir=options.folder) as scratch, ExitStack() as stack:
        folder = Path(scratch)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own when we are root
        file = recorded(folder / "short", frames)
        long = file if options.quick else recorded(folder / "long", LONG_TICKS)
        tell("starting the servers")
        program = find_nginx()
        ours = stack.enter_context(lefleet(folder / "lefleet", count))
        plain = stack.enter_context(nginx(program, folder / "nginx", count)) if program else None
        servers = {name: ours if PIECE_BYTES[name] else plain for name in uploads(options)}
        found: dict[str, list[Sample]] = {name: [] for name in (*servers, SHA256, FSYNC)}
        turn(ours, PIECE_BYTES[WHOLE], file, 1, folder)  # what a server does once, before its first episode
        for _ in range(options.rounds):
            for name, server in servers.items():
                tell(name)
                if server:
                    sent, each = (long, 1) if name in {LONG_NGINX, LONG} else (file, files_each)
                    found[name].append(turn(server, PIECE_BYTES[name], sent, each, folder))
            tell(SHA256)
            found[SHA256].append(hash_alone(file, files_each))
            tell(FSYNC)
            found[FSYNC].append(write_alone(file, files_each, folder))
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items() if rounds)
    missing = () if program else ("NO NGINX HERE, so its row is missing: apt-get install nginx-light",)
    return Figure(
        NAME,
        f"Upload of {file.bytes / 1e6:.0f} MB episodes, {count} at once, {count * files_each} a turn, and of longer "
        f"ones of {long.bytes / 1e6:.0f} MB, {count} a turn, median of {options.rounds}",
        COLUMNS,
        rows,
        compare("upload, 4 MiB pieces", rows, PIECES, NGINX, MB_S, lower_is_better=False)
        + compare("upload, 4 MiB pieces", rows, PIECES, NGINX, MB_CPU_S, lower_is_better=False)
        + compare("upload, one piece", rows, WHOLE, NGINX, MB_S, lower_is_better=False)
        + compare("upload, one piece", rows, WHOLE, NGINX, MB_CPU_S, lower_is_better=False)
        + compare("upload, longer episode", rows, LONG, LONG_NGINX, MB_S, lower_is_better=False)
        + compare("upload, longer episode", rows, LONG, LONG_NGINX, MB_CPU_S, lower_is_better=False),
        (
            "LeFleet hashes every byte, opens and checks the HDF5 file, syncs it and its folder to disk, commits to "
            "PostgreSQL and answers with a receipt; nginx writes into the page cache. Clients share the cores.",
            "Memory is the resident one of all the server's processes at its peak, looked at every 50 ms, above what "
            "it was when the turn began.",
            *missing,
        ),
    )


def recorded(folder: Path, frames: int) -> EpisodeFile:
    found = run_worker("ingest.py", 120, folder=str(folder), frames=frames)
    return EpisodeFile(**found | {"path": Path(found["path"])})


def turn(server: UploadServer, piece_bytes: int, file: EpisodeFile, files_each: int, folder: Path) -> Sample:
    """Every client uploads its own episodes; only the time from the first byte to the last receipt counts."""
    with TemporaryDirectory(dir=folder) as scratch:
        shares = [
            [another(file, Path(scratch), robot_of(n)) for _ in range(files_each)] for n in range(len(server.tokens))
        ]
        os.sync()  # what others wrote is not this turn's to flush
        with clients(server, piece_bytes, shares) as processes, memory_growth(server.web_pid) as growth:
            web_s, database_s = spent_s(server)
            answers = upload(processes)
            web_after_s, database_after_s = spent_s(server)
    seconds = max(a["ended_s"] for a in answers) - min(a["begun_s"] for a in answers)
    megabytes = sum(each.bytes for share in shares for each in share) / 1e6
    web_s, database_s = web_after_s - web_s, database_after_s - database_s
    return {
        "mb_s": megabytes / seconds,
        "mb_cpu_s": megabytes / web_s,
        "mb_all_cpu_s": megabytes / (web_s + database_s),
        "ms": sum(a["ended_s"] - a["begun_s"] for a in answers) / len(answers) / files_each * 1e3,
        "grown_mb": growth.megabytes,
    }


@contextmanager
def clients(
    server: UploadServer, piece_bytes: int, shares: list[list[EpisodeFile]]
) -> Iterator[list[subprocess.Popen[str]]]:
    processes = []
    script = str(Path(__file__).with_name("upload_client.py"))
    try:
        for token, share in zip(server.tokens, shares, strict=True):
            files = [asdict(each) | {"path": str(each.path)} for each in share]
            job = {"port": server.port, "token": token, "piece_bytes": piece_bytes, "files": files}
            processes.append(
                subprocess.Popen(
                    [sys.executable, script, json.dumps(job)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )
            )  # fmt: skip
        for process in processes:
            assert process.stdout, "was asked for"
            if process.stdout.readline() != "ready\n":
                raise BenchError(f"an upload client did not start: {process.communicate()[1]}")
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def upload(processes: list[subprocess.Popen[str]]) -> list[dict[str, float]]:
    """Let all of them go at once; when each began and ended."""
    for process in processes:
        assert process.stdin, "was asked for"
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        output, errors = process.communicate(timeout=300)
        if process.returncode:
            raise BenchError(f"an upload failed: {errors.strip()}")
        answers.append(json.loads(output))
    return answers


def spent_s(server: UploadServer) -> tuple[float, float]:
    return cpu_s(server.web_pid), cpu_s(server.database_pid) if server.database_pid else 0.0


def hash_alone(file: EpisodeFile, times: int) -> Sample:
    start_s = monotonic()
    for _ in range(times):
        with file.path.open("rb") as opened:
            file_digest(opened, "sha256")
    return {"mb_s": file.bytes * times / 1e6 / (monotonic() - start_s)}


def write_alone(file: EpisodeFile, times: int, folder: Path) -> Sample:
    """What the disk allows one writer that may acknowledge only what is on it."""
    data = file.path.read_bytes()
    start_s = monotonic()
    for number in range(times):
        with (folder / f"synced-{number}").open("wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
    sample = {"mb_s": file.bytes * times / 1e6 / (monotonic() - start_s)}
    for number in range(times):
        (folder / f"synced-{number}").unlink()
    return sample


def work(folder: str, frames: int) -> dict[str, Any]:
    """In the worker: a valid episode file by the agent's own recorder."""
    file = record(Path(folder) / "robot", frames, robot_of(0))
    return asdict(file) | {"path": str(file.path)}


if __name__ == "__main__":
    worker_main(work)
