"""Downloads of episodes by the server's Python and by the proxy before it: MB per second of their processor time."""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from episodes import EpisodeFile
from episodes_list import log_in
from figure import Column, Figure, Row, Sample, compare
from ingest import PIECE_BYTES, WHOLE
from ingest import turn as upload_turn
from options import Options
from processes import Unavailable, cpu_s, run_worker, worker_main
from upload_servers import lefleet, nginx

sys.path.append(str(Path(__file__).parents[1]))

import proxies

NAME = "downloads"
CLIENTS = 4
MB_S, MB_CPU_S = Column("mb_s", "MB/s", 0), Column("mb_cpu_s", "MB per CPU s of server and proxy", 0)
PLAIN, ALONE = "nginx, a file without any server (floor)", "LeFleet without a proxy"
BY_PYTHON = {name: f"{name} before LeFleet, which sends the file" for name in ("caddy", "nginx")}
BY_PROXY = {name: f"{name} sends the file when LeFleet says so" for name in ("caddy", "nginx")}


def steps(options: Options) -> int:
    return 2 + options.rounds * 6


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    lacking = [name for name in ("caddy", "nginx") if proxies.find(name) is None]
    if lacking:
        raise Unavailable(f"{' and '.join(lacking)} missing; `python3 ansible/demo/packages.py bench` installs it")
    frames, times = (20, 2) if options.quick else (140, 8)
    tell("recording an episode")
    with TemporaryDirectory(dir=options.folder) as scratch, ExitStack() as stack:
        folder = Path(scratch)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own when we are root
        file = EpisodeFile(**run_worker("ingest.py", 120, folder=scratch, frames=frames))
        file = EpisodeFile(Path(file.path), file.episode_id, file.sha256, file.bytes)
        tell("starting the servers")
        ours = stack.enter_context(lefleet(folder / "lefleet", 1, downloads_by="proxy"))
        upload_turn(ours, PIECE_BYTES[WHOLE], file, 1, folder)
        cookie = log_in(ours.port, folder / "lefleet" / "server.yml")
        path = f"/api/v1/episodes/{newest(ours.port, cookie)}/file"
        blobs = folder / "lefleet" / "state" / "blobs"
        plain = stack.enter_context(nginx(str(proxies.find("nginx")), folder / "nginx", 0))
        (blob,) = (each for each in blobs.glob("??/??/*") if each.is_file())
        (folder / "nginx" / "files" / "episode.h5").hardlink_to(blob)
        size = blob.stat().st_size
        turns = {
            PLAIN: (plain.port, "/episode.h5", [plain.web_pid]),
            ALONE: (ours.port, path, [ours.web_pid]),
        }
        for name in ("caddy", "nginx"):
            for row, sends in ((BY_PYTHON[name], False), (BY_PROXY[name], True)):
                place = folder / f"{name}-{'proxy' if sends else 'python'}"
                address, pid = stack.enter_context(proxies.running(name, place, ours.port, blobs, sends=sends))
                turns[row] = (urlsplit(address).port or 0, path, [ours.web_pid, pid])
        found: dict[str, list[Sample]] = {name: [] for name in turns}
        for _ in range(options.rounds):
            for name, (port, place, pids) in turns.items():
                tell(name)
                found[name].append(turn(port, place, pids, cookie, times, size))
    rows = tuple(Row(name, tuple(rounds)) for name, rounds in found.items())
    return Figure(
        NAME,
        f"Download of a {size / 1e6:.0f} MB episode, {CLIENTS} at once, {CLIENTS * times} a turn, median of "
        f"{options.rounds}",
        (MB_S, MB_CPU_S),
        rows,
        tuple(
            comparison
            for name in ("caddy", "nginx")
            for peer in (BY_PYTHON[name], PLAIN)
            for comparison in compare(f"sent by {name}", rows, BY_PROXY[name], peer, MB_CPU_S, lower_is_better=False)
        ),
        (
            "Over HTTP, on the loopback, from the page cache; each request is authorised by LeFleet and PostgreSQL, "
            "whose processor time is not counted. The clients, one process, share the machine's cores.",
        ),
    )


def turn(port: int, path: str, pids: list[int], cookie: str, times: int, size: int) -> Sample:
    before_s = sum(map(cpu_s, pids))
    told = run_worker("downloads.py", 300, port=port, path=path, cookie=cookie, times=times, size=size)
    spent_s = sum(map(cpu_s, pids)) - before_s
    megabytes = CLIENTS * times * size / 1e6
    return {"mb_s": megabytes / told["seconds"], "mb_cpu_s": megabytes / spent_s}


def work(port: int, path: str, cookie: str, times: int, size: int) -> dict[str, Any]:
    """In the worker: every client fetches the file so often, over one connection, into the same memory."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        began_s = monotonic()
        for done in [pool.submit(_fetch, port, path, cookie, times, size) for _ in range(CLIENTS)]:
            done.result()
        return {"seconds": monotonic() - began_s}


def _fetch(port: int, path: str, cookie: str, times: int, size: int) -> None:
    connection, memory = HTTPConnection("127.0.0.1", port, timeout=60), bytearray(1 << 20)
    for _ in range(times):
        connection.request("GET", path, headers={"Cookie": cookie})
        answer, received = connection.getresponse(), 0
        while count := answer.readinto(memory):
            received += count
        if answer.status != 200 or received != size:
            raise SystemExit(f"{path}: {answer.status} and {received} bytes instead of 200 and {size}")
    connection.close()


def newest(port: int, cookie: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/v1/episodes?limit=1", headers={"Cookie": cookie})
    (item,) = json.loads(connection.getresponse().read())["items"]
    connection.close()
    return str(item["id"])


if __name__ == "__main__":
    worker_main(work)
