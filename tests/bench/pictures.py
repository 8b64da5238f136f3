"""One stored picture of an episode by its index, over the API: how long it takes, and the server's processor time."""

from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import h5py
from downloads import newest
from episodes_list import log_in
from figure import Column, Figure, Row, Sample, compare
from ingest import PIECE_BYTES, WHOLE, recorded
from ingest import turn as upload_turn
from options import Options
from processes import Unavailable, cpu_s, run_worker, worker_main
from upload_servers import find_nginx, lefleet, nginx

NAME = "pictures"
CAMERA = "front"
P50_MS, CPU_MS = Column("p50_ms", "p50, ms", 2), Column("cpu_ms", "CPU ms each", 2)
COLUMNS = (P50_MS, Column("p99_ms", "p99, ms", 2), CPU_MS)
OURS, PLAIN = "LeFleet, any picture of the episode by its index", "nginx, one of the pictures as a file (floor)"
BY_H5PY = "h5py, the file opened for each picture, no server"


def steps(options: Options) -> int:
    return 2 + options.rounds * 3


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    program = find_nginx()
    if program is None:
        raise Unavailable("nginx missing; `python3 ansible/demo/packages.py bench` installs it")
    frames, times = (20, 20) if options.quick else (900, 500)
    tell("recording an episode")
    with TemporaryDirectory(dir=options.folder) as scratch, ExitStack() as stack:
        folder = Path(scratch)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own when we are root
        file = recorded(folder / "episode", frames)
        tell("starting the servers")
        ours = stack.enter_context(lefleet(folder / "lefleet", 1))
        plain = stack.enter_context(nginx(program, folder / "nginx", 0))
        upload_turn(ours, PIECE_BYTES[WHOLE], file, 1, folder)
        cookie = log_in(ours.port, folder / "lefleet" / "server.yml")
        (folder / "nginx" / "files" / "picture.jpg").write_bytes(picture(file.path, frames // 2))
        pattern = f"/api/v1/episodes/{newest(ours.port, cookie)}/frames/{CAMERA}/{{}}.jpg"
        turns = {OURS: (ours.port, ours.web_pid, pattern), PLAIN: (plain.port, plain.web_pid, "/picture.jpg")}
        found: dict[str, list[Sample]] = {name: [] for name in (*turns, BY_H5PY)}
        for _ in range(options.rounds):
            for name, (port, pid, path) in turns.items():
                tell(name)
                found[name].append(turn(port, pid, path, cookie, frames, times))
            tell(BY_H5PY)
            found[BY_H5PY].append(run_worker("pictures.py", 300, path=str(file.path), frames=frames, times=times))
        size = len(picture(file.path, frames // 2))
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    return Figure(
        NAME,
        f"A picture of {size / 1e3:.0f} kB out of an episode of {frames} frames and {file.bytes / 1e6:.0f} MB, one "
        f"after another, {times} a turn, median of {options.rounds}",
        COLUMNS,
        rows,
        tuple(
            comparison
            for peer in (PLAIN, BY_H5PY)
            for column in (P50_MS, CPU_MS)
            for comparison in compare("picture by index", rows, OURS, peer, column, lower_is_better=True)
        ),
        (
            "Over HTTP, on the loopback, over one connection, from the page cache. LeFleet authorises each request by "
            "PostgreSQL, whose processor time is not counted.",
        ),
    )


def turn(port: int, pid: int, pattern: str, cookie: str, frames: int, times: int) -> Sample:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    waited_s: list[float] = []
    _get(connection, pattern.format(0), cookie)  # what a server does once for a connection
    before_s = cpu_s(pid)
    for index in indices(frames, times):
        began_s = perf_counter()
        _get(connection, pattern.format(index), cookie)
        waited_s.append(perf_counter() - began_s)
    spent_s = cpu_s(pid) - before_s
    connection.close()
    return sample(waited_s, spent_s)


def _get(connection: HTTPConnection, path: str, cookie: str) -> None:
    connection.request("GET", path, headers={"Cookie": cookie})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 or not body.startswith(b"\xff\xd8"):
        raise SystemExit(f"{path}: {answer.status} and {len(body)} bytes instead of a picture")


def indices(frames: int, times: int) -> list[int]:
    """The same for everyone, in no order."""
    return Random(1).choices(range(frames), k=times)  # noqa: S311 - not for secrets


def sample(waited_s: list[float], spent_s: float) -> Sample:
    parts = quantiles(waited_s, n=100, method="inclusive")
    return {"p50_ms": parts[49] * 1e3, "p99_ms": parts[98] * 1e3, "cpu_ms": spent_s / len(waited_s) * 1e3}


def picture(path: Path, index: int) -> bytes:
    with h5py.File(path) as file:
        length = int(file[f"observations/image_bytes/{CAMERA}"][index])
        return bytes(file[f"observations/images/{CAMERA}"][index, :length])


def work(path: str, frames: int, times: int) -> dict[str, Any]:
    """In the worker: reads as many, and opens the file anew for each, as a server must that keeps none open."""
    waited_s: list[float] = []
    picture(Path(path), 0)  # what h5py does once
    began_cpu_s = process_time()
    for index in indices(frames, times):
        began_s = perf_counter()
        picture(Path(path), index)
        waited_s.append(perf_counter() - began_s)
    return dict(sample(waited_s, process_time() - began_cpu_s))


if __name__ == "__main__":
    worker_main(work)
